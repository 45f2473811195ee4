// Package patterns decides whose a key is. It matches Redis globs byte for byte as the server does, sorts keys into
// families by the longest fixed prefix, and knows which keys nobody may touch.
package patterns

import (
	"math/bits"
	"strings"
)

// MinFixedPrefix is the length in bytes below which a pattern's fixed prefix makes the pattern [Broad].
const MinFixedPrefix = 3

// Glob is a compiled Redis glob. The zero value matches only the empty key.
type Glob struct {
	text string

	// prefix and wild are read off the text by fixedPrefix, lead and steps come from Compile's parser. The two are
	// kept apart on purpose: [Set.FixedPrefixHolds] must not believe what the matcher believes.
	prefix string
	wild   bool

	lead  string // the bytes of the leading steps that take one certain byte
	steps []step // the whole pattern, lead included
}

// step takes one byte out of set or, for a star, any number of bytes (its set is then every byte).
type step struct {
	star bool
	set  byteSet
}

// Compile reads a pattern as stringmatchlen in Redis' src/util.c does. Any byte string is a valid pattern there: an
// unterminated class ends with the pattern, "[]" is a class that takes no byte, and a trailing backslash is itself.
func Compile(pattern string) Glob {
	g := Glob{text: pattern}
	g.prefix, g.wild = fixedPrefix(pattern)
	for i := 0; i < len(pattern); {
		var s step
		switch c := pattern[i]; {
		case c == '*':
			i++
			if n := len(g.steps); n > 0 && g.steps[n-1].star {
				continue
			}
			s = step{star: true, set: anyByte()}
		case c == '?':
			i++
			s.set = anyByte()
		case c == '[':
			s.set, i = parseClass(pattern, i+1)
		case c == '\\' && i+1 < len(pattern):
			s.set.add(pattern[i+1])
			i += 2
		default:
			s.set.add(c)
			i++
		}
		g.steps = append(g.steps, s)
	}
	if len(g.steps) == 1 && g.steps[0].star && pattern != "*" {
		// Redis' matcher never lets a star match the empty key. KEYS and SCAN answer "*" without asking it, so "*" does
		// match that key, but "**" does not.
		g.steps = []step{{set: anyByte()}, g.steps[0]}
	}
	g.lead = leadingBytes(g.steps)
	return g
}

// parseClass reads a class from behind its opening bracket and returns where the pattern goes on.
func parseClass(pattern string, i int) (byteSet, int) {
	var set byteSet
	negated := i < len(pattern) && pattern[i] == '^'
	if negated {
		i++
	}
	for i < len(pattern) && pattern[i] != ']' {
		switch left := len(pattern) - i; {
		case pattern[i] == '\\' && left >= 2:
			// An escaped byte neither closes the class nor begins a range.
			set.add(pattern[i+1])
			i += 2
		case left >= 3 && pattern[i+1] == '-':
			// The end is taken as it is, so "[a-]" is an unterminated class with the range from ']' to 'a'.
			set.addRange(pattern[i], pattern[i+2])
			i += 3
		default:
			set.add(pattern[i])
			i++
		}
	}
	if negated {
		set = set.complement()
	}
	return set, min(i+1, len(pattern))
}

// fixedPrefix returns the literal bytes before the first wildcard or class, and whether there is one.
func fixedPrefix(pattern string) (prefix string, wild bool) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*', '?', '[':
			return b.String(), true
		case '\\':
			if i+1 < len(pattern) {
				i++
			}
		}
		b.WriteByte(pattern[i])
	}
	return b.String(), false
}

func leadingBytes(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		c, only := s.set.single()
		if !only {
			break
		}
		b.WriteByte(c)
	}
	return b.String()
}

// Match reports whether SCAN MATCH would return the key. It answers in time proportional to pattern × key at worst and
// allocates nothing.
//
// A server may answer differently in two cases. A range with one end below 0x80 and one above depends on its char: here
// it is signed, as on x86-64, where [a-\xfe] takes 0xfe, 0xff and 0x00 to 'a'; on arm64 it is not, and takes 'a' to 0xfe.
// And since the fix of CVE-2024-31228 Redis finds nothing for more than 1000 stars (one at the end not counted).
func (g Glob) Match(key string) bool {
	return strings.HasPrefix(key, g.lead) && matchSteps(g.steps[len(g.lead):], key[len(g.lead):])
}

// matchSteps goes back to the last star only: whatever an earlier star could still take, the last one can take as well.
// That is what Redis' skipLongerMatches says, too.
func matchSteps(steps []step, key string) bool {
	s, k := 0, 0
	afterStar, retry := -1, 0
	for k < len(key) {
		switch {
		case s < len(steps) && steps[s].star:
			s++
			if s == len(steps) {
				return true
			}
			afterStar, retry = s, k
		case s < len(steps) && steps[s].set.has(key[k]):
			s++
			k++
		case afterStar >= 0:
			retry++
			s, k = afterStar, retry
		default:
			return false
		}
	}
	if s < len(steps) && steps[s].star {
		s++
	}
	return s == len(steps)
}

// String returns the pattern as written.
func (g Glob) String() string { return g.text }

// FixedPrefix returns the literal bytes before the pattern's first *, ? or [, escapes resolved: every matching key
// begins with them.
func (g Glob) FixedPrefix() string { return g.prefix }

// Literal reports whether the pattern has no wildcard and no class: it matches its FixedPrefix and nothing else.
func (g Glob) Literal() bool { return !g.wild }

// Broad reports whether the fixed prefix is too short to be trusted with deletions. A short literal is broad, too.
func Broad(g Glob) bool { return len(g.prefix) < MinFixedPrefix }

// Intersects reports whether there is a key that both patterns match. It is exact, in time proportional to the product
// of their lengths.
func (g Glob) Intersects(o Glob) bool {
	// here[j]: some key brings g to step i and o to step j. No step leads back, so one row gives the next.
	here, next := make([]bool, len(o.steps)+1), make([]bool, len(o.steps)+1)
	here[0] = true
	for i := 0; ; i++ {
		for j := range here {
			if !here[j] {
				continue
			}
			a, b := at(g.steps, i), at(o.steps, j)
			common := a.set.meets(b.set)
			// A star is passed by taking nothing; it also takes the byte of the other side's step.
			if b.star || a.star && common {
				here[j+1] = true
			}
			if a.star || b.star && common {
				next[j] = true
			}
			if common {
				next[j+1] = true
			}
		}
		if i == len(g.steps) {
			return here[len(o.steps)]
		}
		here, next = next, here
		clear(next)
	}
}

// at returns a step that takes nothing for the end of the pattern.
func at(steps []step, i int) step {
	if i == len(steps) {
		return step{}
	}
	return steps[i]
}

// byteSet has one bit for each of the 256 bytes.
type byteSet [4]uint64

func anyByte() byteSet { return byteSet{}.complement() }

func (s *byteSet) add(c byte) { s[c>>6] |= 1 << (c & 63) }

// addRange adds the bytes between two ends in either order, which Redis compares as (signed) chars.
func (s *byteSet) addRange(from, to byte) {
	lo, hi := int(int8(from)), int(int8(to))
	if lo > hi {
		lo, hi = hi, lo
	}
	for c := lo; c <= hi; c++ {
		s.add(byte(c))
	}
}

func (s *byteSet) has(c byte) bool { return s[c>>6]>>(c&63)&1 != 0 }

func (s byteSet) complement() byteSet { return byteSet{^s[0], ^s[1], ^s[2], ^s[3]} }

func (s byteSet) meets(o byteSet) bool {
	return s[0]&o[0]|s[1]&o[1]|s[2]&o[2]|s[3]&o[3] != 0
}

// single returns the set's byte if it has exactly one.
func (s byteSet) single() (c byte, only bool) {
	n := 0
	for i, word := range s {
		if word != 0 {
			n += bits.OnesCount64(word)
			c = byte(i<<6 + bits.TrailingZeros64(word))
		}
	}
	return c, n == 1
}
