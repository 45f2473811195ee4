package view

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/lipgloss"

	"redis-janitor/patterns"
	"redis-janitor/ttlpolicy"
)

// plainLetters spells the typography of our own messages for terminals and logs without UTF-8.
var plainLetters = strings.NewReplacer("−", "-", "–", "-", "—", "-", "…", "...", "·", "-", "±", "+/-",
	"≤", "<=", "≥", ">=", "×", "x", "→", "->", "’", "'", "“", `"`, "”", `"`, "³", "^3", "⁹", "^9")

// clean escapes, as redis-cli does, all that could act on a terminal rather than be read on it:
// control characters, invisible and direction-changing ones, and bytes that are no UTF-8.
func clean(s string, utf8Out bool) string {
	if !utf8Out {
		s = plainLetters.Replace(s)
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1, !unicode.IsPrint(r), !utf8Out && r > unicode.MaxASCII:
			b.WriteString(strings.Trim(patterns.Quote(s[:size]), `"`))
		default:
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// Lines is a text of several lines in which nothing acts on a terminal: what an operator typed may have come
// from anywhere.
func Lines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		indent := line[:len(line)-len(strings.TrimLeft(line, "\t"))]
		lines[i] = indent + clean(line[len(indent):], true)
	}
	return strings.Join(lines, "\n")
}

// cleaned is a copy of the report in which every string is safe to print. It goes by reflection so
// that a field that is added to the report cannot be forgotten here.
func cleaned[R any](r *R, utf8Out bool) *R {
	c := *r
	cleanValue(reflect.ValueOf(&c).Elem(), utf8Out)
	return &c
}

func cleanValue(v reflect.Value, utf8Out bool) {
	if !v.CanSet() { // the insides of a time.Time
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(clean(v.String(), utf8Out))
	case reflect.Struct:
		for i := range v.NumField() {
			cleanValue(v.Field(i), utf8Out)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			own := reflect.New(v.Type().Elem())
			own.Elem().Set(v.Elem())
			cleanValue(own.Elem(), utf8Out)
			v.Set(own)
		}
	case reflect.Slice:
		own := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(own, v)
		for i := range own.Len() {
			cleanValue(own.Index(i), utf8Out)
		}
		v.Set(own)
	}
}

// wrap breaks text into lines of at most width columns, at spaces, and inside a word only where the
// word alone is wider than a line, as a long key is.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && lipgloss.Width(line)+1+lipgloss.Width(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for lipgloss.Width(word) > width {
			end := 0
			for i, r := range word {
				if i > 0 && lipgloss.Width(word[:i+utf8.RuneLen(r)]) > width {
					break
				}
				end = i + utf8.RuneLen(r)
			}
			lines, word = append(lines, word[:end]), word[end:]
		}
		line = word
	}
	return append(lines, line)
}

// count groups a number's digits by three: 1,204,331.
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(digits) - 3; i > start; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// shortCount rounds a number to three digits where there is no room for more: 1.20M.
func shortCount(n int64) string {
	value, unit := float64(n), ""
	for _, next := range []string{"k", "M", "G", "T"} {
		if value < 999.5 {
			break
		}
		value, unit = value/1000, next
	}
	switch {
	case unit == "":
		return strconv.FormatInt(n, 10)
	case value < 9.995:
		return fmt.Sprintf("%.2f%s", value, unit)
	case value < 99.95:
		return fmt.Sprintf("%.1f%s", value, unit)
	}
	return fmt.Sprintf("%.0f%s", value, unit)
}

// shortSize rounds a size to three digits: 881 MB, 84.9 MB.
func shortSize(n int64) string {
	text := ttlpolicy.FormatSize(n)
	number, unit, _ := strings.Cut(text, " ")
	value, err := strconv.ParseFloat(number, 64)
	switch {
	case err == nil && value >= 99.95:
		return fmt.Sprintf("%.0f %s", value, unit)
	case err == nil && value >= 9.995 && strings.Contains(number, "."):
		return fmt.Sprintf("%.1f %s", value, unit)
	}
	return text
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

func percent(part, whole int64) string {
	return fmt.Sprintf("%.1f%%", 100*float64(part)/float64(whole))
}

// age writes how old keys are, to the second, and from ten minutes on to the minute.
func age(d time.Duration) string {
	if d >= 10*time.Minute {
		return ttlpolicy.FormatDuration(d.Round(time.Minute))
	}
	return ttlpolicy.FormatDuration(d.Round(time.Second))
}
