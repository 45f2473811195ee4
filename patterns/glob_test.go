package patterns_test

import (
	"strings"
	"testing"

	"redis-janitor/patterns"
)

// semantics is one row a rule of stringmatchlen; the keys are checked against a real server in server_test.go as well.
var semantics = []struct {
	rule    string
	pattern string
	match   []string
	differ  []string
}{
	{"the empty pattern is the empty key", "", []string{""}, []string{"a"}},
	{"bytes are themselves, in their case", "Ab", []string{"Ab"}, []string{"ab", "AB", "A", "Abc", "xAb"}},
	{"? takes one byte, not one character", "a?", []string{"ab", "a\x00", "a\xff", "a?"}, []string{"a", "abc", "aé"}},
	{"* takes any number of bytes", "a*", []string{"a", "ab", "a\n\x00\xff"}, []string{"", "ba"}},
	{"* may stand anywhere", "*a*b", []string{"ab", "xaxxb", "aab", "abab"}, []string{"a", "b", "ba", "abx", ""}},
	{"stars in a row are one", "a***b**", []string{"ab", "axb", "abb"}, []string{"a", "axc"}},
	{"* alone matches the empty key", "*", []string{"", "a"}, nil},
	{"** alone does not", "**", []string{"a", "aa"}, []string{""}},
	{"***? needs a byte", "***?", []string{"a", "aa"}, []string{""}},
	{"a class takes one of its bytes", "[abc]", []string{"a", "b", "c"}, []string{"", "d", "ab", "[abc]"}},
	{"a range", "[b-d]", []string{"b", "c", "d"}, []string{"a", "e", "-"}},
	{"a range of one byte", "[b-b]", []string{"b"}, []string{"a", "-"}},
	{"a reversed range is the same range", "[z-a]", []string{"a", "m", "z"}, []string{"A", "-", "{"}},
	{"ranges and bytes mix", "[a-c_x-z]", []string{"b", "_", "y"}, []string{"-", "d"}},
	{"^ in front negates", "[^ab]", []string{"c", "^", "\xff"}, []string{"a", "b", "", "cc"}},
	{"^ elsewhere is a byte", "[a^]", []string{"a", "^"}, []string{"b"}},
	{"a second ^ is a byte", "[^^]", []string{"a"}, []string{"^"}},
	{"! does not negate", "[!a]", []string{"!", "a"}, []string{"b"}},
	{"* and ? in a class are bytes", "[*?]", []string{"*", "?"}, []string{"a", ""}},
	{"] closes a class at once", "[]", nil, []string{"", "]", "[]", "a"}},
	{"] closes a class at once, what follows is outside", "[]a]", nil, []string{"a", "]", "a]"}},
	{"[^] takes any byte", "[^]", []string{"a", "]", "^"}, []string{"", "ab"}},
	{"- in front is a byte", "[-a]", []string{"-", "a"}, []string{"b"}},
	{"- begins a range", "[--/]", []string{"-", ".", "/"}, []string{",", "0"}},
	{"- after ^ is a byte", "[^-a]", []string{"b"}, []string{"-", "a"}},
	{"] may end a range, and the class goes on", "[a-]", []string{"]", "^", "_", "`", "a"}, []string{"-", "b", "\\"}},
	{"] may end a range, then another closes the class", "[a-]b]c", []string{"]c", "bc", "ac"}, []string{"-c", "b", "b]c"}},
	{"a backslash may end a range", `[a-\]x`, []string{"]x", "`x", "ax", `\x`}, []string{"-x", "bx", "x"}},
	{"a backslash escapes in a class", `[\]]`, []string{"]"}, []string{`\`, `\]`}},
	{"an escaped backslash in a class", `[\\]`, []string{`\`}, []string{"]", `\\`}},
	{"an escaped byte begins no range", `[\a-c]`, []string{"a", "-", "c"}, []string{"b"}},
	{"an escaped ^ does not negate", `[\^a]`, []string{"^", "a"}, []string{"b"}},
	{"an escaped - is a byte", `[a\-c]`, []string{"a", "-", "c"}, []string{"b"}},
	{"an unterminated class ends with the pattern", "[abc", []string{"a", "b", "c"}, []string{"", "d", "[abc", "aa"}},
	{"an unterminated class takes brackets", "x[a[b", []string{"xa", "x[", "xb"}, []string{"x"}},
	{"[ alone takes nothing", "[", nil, []string{"", "[", "a"}},
	{"[^ alone takes any byte", "[^", []string{"a", "^", "[", "\x00"}, []string{"", "ab"}},
	{"[a- has no range", "[a-", []string{"a", "-"}, []string{"b", ""}},
	{"[^a- has no range", "[^a-", []string{"b"}, []string{"a", "-"}},
	{"a backslash ends an unterminated class as itself", `[a\`, []string{"a", `\`}, []string{"b"}},
	{"an escaped ] leaves a class unterminated", `[a\]`, []string{"a", "]"}, []string{`\`, "a]"}},
	{"a backslash escapes wildcards", `\*\?\[a]`, []string{"*?[a]"}, []string{"xx", "a"}},
	{"a backslash before a plain byte vanishes", `ml\_x*`, []string{"ml_x", "ml_xy"}, []string{`ml\_x`}},
	{`\n is an n`, `a\n`, []string{"an"}, []string{"a\n"}},
	{"a lone backslash is itself", `\`, []string{`\`}, []string{"", `\\`}},
	{"a trailing backslash is itself", `a\`, []string{`a\`}, []string{"a", `a\\`}},
	{"an escaped backslash is one", `a\\`, []string{`a\`}, []string{`a\\`, "a"}},
	{"a star after an escaped backslash is a star", `a\\*`, []string{`a\`, `a\x`}, []string{"a*", "ax"}},
	{"a closing bracket outside is a byte", "a]", []string{"a]"}, []string{"a"}},
	{"binary bytes are bytes", "a\x00[\x01-\x03]\xff*", []string{"a\x00\x02\xff", "a\x00\x01\xff\x00"}, []string{"a", "a\x00\x04\xff"}},
	{"high ranges", "[\x80-\xfe]", []string{"\x80", "\xc3", "\xfe"}, []string{"\xff", "\x7f", "a"}},
	{"chars are signed, so a range across 0x80 is the outside", "[a-\xfe]", []string{"\xfe", "\xff", "\x00", "a"}, []string{"b", "\x80", "\xfd"}},
}

func TestAGlobMatchesAsRedisSays(t *testing.T) {
	for _, row := range semantics {
		g := patterns.Compile(row.pattern)
		for _, key := range row.match {
			if !g.Match(key) {
				t.Errorf("%s: %q does not match %q", row.rule, row.pattern, key)
			}
		}
		for _, key := range row.differ {
			if g.Match(key) {
				t.Errorf("%s: %q matches %q", row.rule, row.pattern, key)
			}
		}
		if g.String() != row.pattern {
			t.Errorf("%s: String() = %q, want %q", row.rule, g.String(), row.pattern)
		}
	}
}

func TestTheZeroGlobMatchesOnlyTheEmptyKey(t *testing.T) {
	var g patterns.Glob
	if !g.Match("") || g.Match("a") || !g.Literal() || g.FixedPrefix() != "" || g.String() != "" {
		t.Errorf("zero Glob: Match(\"\") %v, Match(\"a\") %v, Literal %v", g.Match(""), g.Match("a"), g.Literal())
	}
	if !g.Intersects(patterns.Compile("*")) || g.Intersects(patterns.Compile("**")) {
		t.Error("the zero Glob must intersect with \"*\" and, as the empty key does not match it, not with \"**\"")
	}
}

func TestTheFixedPrefixEndsBeforeTheFirstWildcard(t *testing.T) {
	for _, row := range []struct {
		pattern, prefix string
		literal, broad  bool
	}{
		{"", "", true, true},
		{"*", "", false, true},
		{"ml*", "ml", false, true},
		{"ab", "ab", true, true},
		{"ml_*", "ml_", false, false},
		{`ml\_x*`, "ml_x", false, false},
		{"abc", "abc", true, false},
		{`a\*b\\c`, `a*b\c`, true, false},
		{`abc\`, `abc\`, true, false},
		{"abc?d", "abc", false, false},
		{"abc[d]e", "abc", false, false},
		{"abc[", "abc", false, false},
		{`\[ab]c*`, "[ab]c", false, false},
		{"a\x00\xff*", "a\x00\xff", false, false},
	} {
		g := patterns.Compile(row.pattern)
		if g.FixedPrefix() != row.prefix || g.Literal() != row.literal || patterns.Broad(g) != row.broad {
			t.Errorf("%q: prefix %q, literal %v, broad %v; want %q, %v, %v",
				row.pattern, g.FixedPrefix(), g.Literal(), patterns.Broad(g), row.prefix, row.literal, row.broad)
		}
	}
}

// This test has no clock: a matcher that tries every split would not come to its end.
func TestManyStarsTakeNoExponentialTime(t *testing.T) {
	as := strings.Repeat("a", 20_000)
	stars := patterns.Compile(strings.Repeat("a*", 200) + "b")
	if stars.Match(as) {
		t.Error("matches without a b")
	}
	if !stars.Match(as + "b") {
		t.Error("does not match with a b")
	}
	if patterns.Compile(strings.Repeat("*[a-z]?", 200) + "b").Match(as) {
		t.Error("classes: matches without a b")
	}
	ends := patterns.Compile(strings.Repeat("*b", 1000))
	if !patterns.Compile(strings.Repeat("a*", 1000)).Intersects(ends) {
		t.Error("a…b is matched by both")
	}
	if patterns.Compile(strings.Repeat("a*", 1000) + "c").Intersects(ends) {
		t.Error("nothing ends with b and with c")
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	key := "combot_cache:1:django.contrib.sessions.cache0123456789"
	for _, pattern := range []string{"combot_cache:*", "*session?.[a-d]*9", "*x", key} {
		g := patterns.Compile(pattern)
		if n := testing.AllocsPerRun(100, func() { g.Match(key) }); n != 0 {
			t.Errorf("%q: %v allocations a match", pattern, n)
		}
	}
}

func TestIntersectsTellsExactlyWhetherAKeyMatchesBoth(t *testing.T) {
	// All globs of up to three of these elements, against all keys over a, b and c (any other byte) that are as long as
	// the elements of two globs: a shortest common key is never longer.
	elements := []string{"a", "b", "?", "*", "[ab]", "[^a]", "[^b]", "[]"}
	globs, keys := words(elements, 3), words([]string{"a", "b", "c"}, 6)
	compiled, matches := make([]patterns.Glob, len(globs)), make([][]uint64, len(globs)) // matches: one bit a key
	for i, text := range globs {
		compiled[i], matches[i] = patterns.Compile(text), make([]uint64, len(keys)/64+1)
		for k, key := range keys {
			if compiled[i].Match(key) {
				matches[i][k/64] |= 1 << (k % 64)
			}
		}
	}
	for i := range globs {
		for j := range globs {
			want := false
			for w := 0; w < len(matches[i]) && !want; w++ {
				want = matches[i][w]&matches[j][w] != 0
			}
			if got := compiled[i].Intersects(compiled[j]); got != want {
				t.Fatalf("%q and %q: Intersects is %v, want %v", globs[i], globs[j], got, want)
			}
		}
	}
}

// words returns every concatenation of up to n of the parts.
func words(parts []string, n int) []string {
	all := []string{""}
	for last := all; n > 0; n-- {
		var longer []string
		for _, w := range last {
			for _, p := range parts {
				longer = append(longer, w+p)
			}
		}
		all, last = append(all, longer...), longer
	}
	return all
}

// stringMatches says what Redis' matcher says, one element of the pattern at a time: no compiling, no going back to
// the last star only, no skipLongerMatches. That makes it exponential in the number of stars.
func stringMatches(pattern, key string) bool {
	if key == "" || pattern == "" {
		return pattern == key
	}
	c, rest := pattern[0], pattern[1:]
	switch c {
	case '*':
		if strings.Trim(rest, "*") == "" {
			return true
		}
		for i := range len(key) {
			if stringMatches(rest, key[i:]) {
				return true
			}
		}
		return false
	case '[':
		var in bool
		if in, rest = classHas(rest, key[0]); !in {
			return false
		}
	case '?':
	default:
		if c == '\\' && rest != "" {
			c, rest = rest[0], rest[1:]
		}
		if c != key[0] {
			return false
		}
	}
	if len(key) == 1 {
		return strings.Trim(rest, "*") == ""
	}
	return stringMatches(rest, key[1:])
}

func classHas(p string, c byte) (in bool, rest string) {
	if strings.HasPrefix(p, "^") {
		in, rest = classBody(p[1:], c)
		return !in, rest
	}
	return classBody(p, c)
}

func classBody(p string, c byte) (in bool, rest string) {
	for p != "" {
		if p[0] == '\\' && len(p) > 1 {
			in = in || p[1] == c
			p = p[2:]
		} else if p[0] == ']' {
			return in, p[1:]
		} else if len(p) > 2 && p[1] == '-' {
			lo, hi := min(int8(p[0]), int8(p[2])), max(int8(p[0]), int8(p[2]))
			in = in || lo <= int8(c) && int8(c) <= hi
			p = p[3:]
		} else {
			in = in || p[0] == c
			p = p[1:]
		}
	}
	return in, ""
}

func FuzzAGlobAgreesWithARetellingOfRedisMatcher(f *testing.F) {
	for _, row := range semantics {
		for _, key := range append(row.match, row.differ...) {
			f.Add(row.pattern, key)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if len(key) > 40 || strings.Count(pattern, "*") > 5 {
			return
		}
		g := patterns.Compile(pattern)
		want := pattern == "*" || stringMatches(pattern, key)
		if got := g.Match(key); got != want {
			t.Errorf("%q on %q: %v, want %v", pattern, key, got, want)
		}
		if want && !strings.HasPrefix(key, g.FixedPrefix()) {
			t.Errorf("%q matches %q, which does not begin with its fixed prefix %q", pattern, key, g.FixedPrefix())
		}
		if g.Literal() && want != (key == g.FixedPrefix()) {
			t.Errorf("literal %q, prefix %q: on %q %v", pattern, g.FixedPrefix(), key, want)
		}
	})
}

func FuzzTwoGlobsThatMatchOneKeyIntersect(f *testing.F) {
	for i, a := range semantics {
		b := semantics[(i*7+1)%len(semantics)]
		for _, key := range a.match {
			f.Add(a.pattern, b.pattern, key)
			f.Add(a.pattern, "*"+b.pattern, key)
		}
	}
	f.Fuzz(func(t *testing.T, a, b, key string) {
		if len(a) > 200 || len(b) > 200 {
			return
		}
		g, o := patterns.Compile(a), patterns.Compile(b)
		meet := g.Intersects(o)
		if meet != o.Intersects(g) {
			t.Errorf("%q and %q: Intersects is not symmetric", a, b)
		}
		if !meet && g.Match(key) && o.Match(key) {
			t.Errorf("%q and %q both match %q and are said not to intersect", a, b, key)
		}
		if g.Match(key) && !g.Intersects(g) {
			t.Errorf("%q matches %q and is said not to intersect with itself", a, key)
		}
	})
}
