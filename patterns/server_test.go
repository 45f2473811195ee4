package patterns_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/redistest"
	"redis-janitor/patterns"
)

// The server's own matcher is asked with KEYS: one command matches a pattern against all keys of a database, with the
// function that SCAN MATCH uses.

func TestMatchAgreesWithTheServerOnTheTable(t *testing.T) {
	var globs, keys []string
	for _, row := range semantics {
		globs = append(globs, row.pattern)
		keys = append(append(keys, row.match...), row.differ...)
	}
	newReferee(t, keys).compare(t, globs)
}

func TestMatchAgreesWithTheServerOnEveryShortPattern(t *testing.T) {
	special := []string{"a", "b", "]", "[", "-", "^", `\`, "*", "?"}
	newReferee(t, words([]string{"a", "b", "]", "-", `\`, "^"}, 3)).compare(t, words(special, 4))
}

func TestMatchAgreesWithTheServerOnRandomBinary(t *testing.T) {
	// Seeded, so that a failure is met again; FuzzMatchAgainstServer looks further.
	random := rand.New(rand.NewPCG(7, 0))
	var keys, globs []string
	for c := range 256 {
		keys = append(keys, string([]byte{byte(c)}))
	}
	for range 400 {
		keys = append(keys, randomText(random, "ab:\x00\x7f\x80\xfe\xff\n", 1+random.IntN(8)))
	}
	for range 2500 {
		globs = append(globs, randomText(random, "ab:\x00\x7f\x80\xfe\xff\n[[[]]--^\\\\**?", 1+random.IntN(12)))
	}
	for range 500 {
		// Patterns bent from a key match more often than random ones.
		key := keys[random.IntN(len(keys))]
		at := random.IntN(len(key))
		globs = append(globs, key[:at]+randomText(random, "*?[]^-\\", 1+random.IntN(3))+key[at:]+randomText(random, "*?]\x80", random.IntN(3)))
	}
	newReferee(t, keys).compare(t, globs)
}

func TestMatchAgreesWithTheServerOnAThousandStars(t *testing.T) {
	keys := []string{strings.Repeat("a", 999), strings.Repeat("a", 1000), strings.Repeat("ba", 1000), strings.Repeat("b", 2000)}
	newReferee(t, keys).compare(t, []string{strings.Repeat("*a", 1000), strings.Repeat("a*", 1000), strings.Repeat("b*a", 1000)})
}

func TestTheServerFindsEveryKeyOfASetWithItsSuperset(t *testing.T) {
	keys := []string{`we*rd?[x]\1:a`, `we*rd?[x]\2:b`, `we*rd?[x]\`, "weird", `we*rd?[y]\1:a`}
	s, err := patterns.NewSet([]patterns.Family{
		{Name: "one", Match: globs(`we\*rd\?\[x]\\1:*`)},
		{Name: "two", Match: globs(`we\*rd\?\[x]\\2:*`)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := newReferee(t, keys)
	if got, want := r.ask(t, []string{s.Superset()})[0], keys[:3]; !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("MATCH %q finds %q, want %q", s.Superset(), got, want)
	}
}

// FuzzMatchAgainstServer needs a server of its own for every worker.
func FuzzMatchAgainstServer(f *testing.F) {
	for _, row := range semantics {
		for _, key := range append(row.match, row.differ...) {
			f.Add(row.pattern, key)
		}
	}
	client := redistest.Start(f).Client()
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if strings.Count(pattern, "*") > 1000 {
			return // servers differ there, see Match
		}
		var found *redis.StringSliceCmd
		_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Set(t.Context(), key, "", 0)
			found = p.Keys(t.Context(), pattern)
			p.Del(t.Context(), key)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := patterns.Compile(pattern).Match(key), len(found.Val()) == 1; got != want {
			t.Errorf("%q on %q: %v, the server says %v", pattern, key, got, want)
		}
	})
}

// referee is a server that holds keys, and so knows which of them a pattern matches.
type referee struct {
	client *redis.Client
	keys   []string
}

func newReferee(t *testing.T, keys []string) referee {
	t.Helper()
	r := referee{client: redistest.Start(t).Client(), keys: slices.Compact(slices.Sorted(slices.Values(keys)))}
	var pairs []any
	for _, key := range r.keys {
		pairs = append(pairs, key, "")
	}
	if err := r.client.MSet(t.Context(), pairs...).Err(); err != nil {
		t.Fatal(err)
	}
	return r
}

// ask returns, for each glob, the keys that the server says match, in order.
func (r referee) ask(t *testing.T, globs []string) [][]string {
	t.Helper()
	var answers [][]string
	for batch := range slices.Chunk(globs, 500) {
		replies, err := r.client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, text := range batch {
				p.Keys(context.Background(), text)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, reply := range replies {
			answers = append(answers, slices.Sorted(slices.Values(reply.(*redis.StringSliceCmd).Val())))
		}
	}
	return answers
}

func (r referee) compare(t *testing.T, globs []string) {
	t.Helper()
	pairs, wrong, hits := 0, 0, 0
	for i, want := range r.ask(t, globs) {
		g := patterns.Compile(globs[i])
		var got []string
		for _, key := range r.keys {
			if g.Match(key) {
				got = append(got, key)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q matches %q, the server says %q", globs[i], got, want)
			if wrong++; wrong == 10 {
				t.FailNow()
			}
		}
		pairs, hits = pairs+len(r.keys), hits+len(want)
	}
	if hits == 0 || hits == pairs {
		t.Fatalf("%d of %d pairs match: the comparison shows nothing", hits, pairs)
	}
	t.Logf("%d pairs of pattern and key, %d match", pairs, hits)
}

func randomText(random *rand.Rand, alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[random.IntN(len(alphabet))]
	}
	return string(b)
}
