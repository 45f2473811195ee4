package policyfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// ParseLimit reads memory.limit and the flag --memory-limit: a size, maxmemory or system.
func ParseLimit(s string) (janitor.Limit, error) {
	words := []string{"maxmemory", "system"}
	if slices.Contains(words, s) {
		return janitor.Limit{From: s}, nil
	}
	bytes, err := ttlpolicy.ParseSize(s)
	if err != nil {
		return janitor.Limit{}, orWord(err, s, words)
	}
	return janitor.Limit{Bytes: bytes}, nil
}

// ParseTarget reads memory.target and the flag --target: a size, a percentage of the limit, or none.
func ParseTarget(s string) (janitor.Target, error) {
	if s == "none" {
		return janitor.Target{None: true}, nil
	}
	if strings.HasSuffix(s, "%") {
		share, err := ttlpolicy.ParsePercent(s)
		return janitor.Target{Share: share}, err
	}
	bytes, err := ttlpolicy.ParseSize(s)
	if err == nil {
		return janitor.Target{Bytes: bytes}, nil
	}
	if share, ok := fraction(s); ok {
		return janitor.Target{}, needsPercent(s, share)
	}
	return janitor.Target{}, fmt.Errorf("%w; or a percentage such as 55%%", orWord(err, s, []string{"none"}))
}

// parseShare is ttlpolicy.ParsePercent with a word on what is most often written instead.
func parseShare(s string) (float64, error) {
	share, err := ttlpolicy.ParsePercent(s)
	if err != nil {
		if meant, ok := fraction(s); ok {
			return 0, needsPercent(s, meant)
		}
	}
	return share, err
}

// fraction says whether a share was written as a number between 0 and 1.
func fraction(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && 0 < f && f < 1
}

func needsPercent(s string, share float64) error {
	return fmt.Errorf("%s is not a percentage; write %s", s, formatShare(share))
}

// orWord adds to what ParseSize says the words that would have done as well.
func orWord(err error, s string, words []string) error {
	if near, ok := Nearest(s, words); ok {
		return fmt.Errorf("%q is unknown; did you mean %s?", s, near)
	}
	return fmt.Errorf("%w; or %s", err, strings.Join(words, " or "))
}

func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("%q is unknown%s", s, suggest(s, words))
		}
		return s, nil
	}
}

func literal(s string) (string, error) { return s, nil }

func parseInt64(s string) (int64, error) { return wholeNumber(s, 64) }

func parseInt(s string) (int, error) {
	n, err := wholeNumber(s, strconv.IntSize)
	return int(n), err
}

// wholeNumber takes only the plain spelling: 010 is 8 in YAML 1.1 and 10 in YAML 1.2.
func wholeNumber(s string, bits int) (int64, error) {
	n, err := strconv.ParseInt(s, 10, bits)
	if err != nil || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("%q is not a whole number; write it in plain digits, such as 20", s)
	}
	return n, nil
}

// parseBool takes no yes and no on, which YAML 1.1 and 1.2 read differently.
func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

// suggest ends a complaint about an unknown word: with the one that was likely meant, else with all.
func suggest(s string, known []string) string {
	if near, ok := Nearest(s, known); ok {
		return "; did you mean " + near + "?"
	}
	return "; known are " + strings.Join(known, ", ")
}

// Nearest finds the known word that s is most likely a slip of: less than half of its letters differ.
func Nearest(s string, known []string) (word string, ok bool) {
	best := 4
	for _, k := range known {
		if d := distance(strings.ToLower(s), k); d < best && 2*d < len(k) {
			word, ok, best = k, true, d
		}
	}
	return word, ok
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
