package patterns

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// OwnPrefix begins the janitor's own keys: its lease, its cooldown. They are protected in every [Set].
const OwnPrefix = "redis-janitor"

// Family is a named set of patterns.
type Family struct {
	Name  string
	Match []Glob
}

// Class says whose a key is.
type Class struct {
	Family    int // index into the families given to NewSet, -1: nobody's
	Protected bool
}

// Set classifies keys. It is safe for use by several goroutines.
type Set struct {
	families []Family
	protect  []Glob
	rules    []rule // longest fixed prefix first, so that the first match wins
}

type rule struct {
	glob   Glob
	family int
}

// TieError says that a key could belong to two families with equal right: their patterns have the same fixed prefix and
// can match the same key. FamilyA and FamilyB are indexes into the families given to NewSet.
type TieError struct {
	FamilyA, FamilyB   int
	PatternA, PatternB string

	nameA, nameB string
}

func (e *TieError) Error() string {
	return fmt.Sprintf("families %s and %s tie: their patterns %s and %s begin with the same fixed prefix and can match the same key; "+
		"lengthen the fixed prefix of one, or put both patterns into one family",
		Quote(e.nameA), Quote(e.nameB), Quote(e.PatternA), Quote(e.PatternB))
}

// NewSet returns a Set of the families, or a *[TieError] for the first two that tie. Protection needs no order: a key
// that any of protect matches, or that begins with [OwnPrefix], is protected whatever its family.
func NewSet(families []Family, protect []Glob) (*Set, error) {
	s := &Set{protect: slices.Clone(protect)}
	for i, f := range families {
		s.families = append(s.families, Family{Name: f.Name, Match: slices.Clone(f.Match)})
		for _, g := range f.Match {
			for _, r := range s.rules {
				if r.family != i && r.glob.FixedPrefix() == g.FixedPrefix() && r.glob.Intersects(g) {
					return nil, &TieError{
						FamilyA: r.family, PatternA: r.glob.String(), nameA: families[r.family].Name,
						FamilyB: i, PatternB: g.String(), nameB: f.Name,
					}
				}
			}
			s.rules = append(s.rules, rule{glob: g, family: i})
		}
	}
	slices.SortStableFunc(s.rules, func(a, b rule) int {
		return cmp.Compare(len(b.glob.FixedPrefix()), len(a.glob.FixedPrefix()))
	})
	return s, nil
}

// Classify returns the family whose matching pattern has the longest fixed prefix, and whether the key is protected.
func (s *Set) Classify(key string) Class {
	c := Class{Family: -1, Protected: strings.HasPrefix(key, OwnPrefix) || s.protector(key) >= 0}
	if i := s.owner(key); i >= 0 {
		c.Family = s.rules[i].family
	}
	return c
}

// Patterns names the two patterns by which Classify decides: the one that makes a key its family's, and the first that
// protects it. Either is empty where there is none.
func (s *Set) Patterns(key string) (family, protection string) {
	if i := s.owner(key); i >= 0 {
		family = s.rules[i].glob.String()
	}
	if strings.HasPrefix(key, OwnPrefix) {
		protection = OwnPrefix + "*"
	} else if i := s.protector(key); i >= 0 {
		protection = s.protect[i].String()
	}
	return family, protection
}

// owner is the index of the rule whose family a key belongs to, protector that of the first pattern which protects it;
// -1 where there is none.
func (s *Set) owner(key string) int {
	for i := range s.rules { // by index: every key of a keyspace comes by here
		if s.rules[i].glob.Match(key) {
			return i
		}
	}
	return -1
}

func (s *Set) protector(key string) int {
	for i := range s.protect {
		if s.protect[i].Match(key) {
			return i
		}
	}
	return -1
}

// FixedPrefixHolds reports whether the key begins with the fixed prefix of at least one of the family's patterns. It is
// the second look before a deletion and shares no code with the matcher; an index that is no family's holds for no key.
func (s *Set) FixedPrefixHolds(family int, key string) bool {
	if family < 0 || family >= len(s.families) {
		return false
	}
	for _, g := range s.families[family].Match {
		if strings.HasPrefix(key, g.FixedPrefix()) {
			return true
		}
	}
	return false
}

// Specimen returns a name that a family's pattern matches, whether or not there is such a key, and "" where none of the patterns
// is as simple as a fixed prefix and a star.
func (s *Set) Specimen() string {
	for _, r := range s.rules {
		if name := r.glob.FixedPrefix(); name != "" && r.glob.Match(name) {
			return name
		}
	}
	return ""
}

// Superset returns one pattern for SCAN MATCH that every key of every family matches: a lone pattern itself, else the
// longest common fixed prefix and a star.
func (s *Set) Superset() string {
	var all []Glob
	for _, f := range s.families {
		all = append(all, f.Match...)
	}
	return superset(all)
}

// FamilySuperset is [Set.Superset] for one family.
func (s *Set) FamilySuperset(family int) string { return superset(s.families[family].Match) }

func superset(globs []Glob) string {
	switch len(globs) {
	case 0:
		return "*"
	case 1:
		return globs[0].String()
	}
	common := globs[0].FixedPrefix()
	for _, g := range globs[1:] {
		for !strings.HasPrefix(g.FixedPrefix(), common) {
			common = common[:len(common)-1]
		}
	}
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(common) + "*"
}
