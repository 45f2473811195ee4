// Package ttlpolicy holds the janitor's judgement: how high memory pressure is,
// which keys a level lets go and why the others stay, how much a sample says of
// a keyspace, and how far down each family must go to free what is needed.
//
// It is pure. Times, sizes and samples come in as arguments; nothing here reads
// a clock, draws at random, or knows of Redis. Whatever is unknown is kept.
package ttlpolicy

import "fmt"

// Level is how high the memory pressure of a node is.
type Level int

// The levels, from none to the highest. Nothing is evicted at OK.
const (
	OK Level = iota
	Cleanup
	Force
	Critical
)

var levelNames = [...]string{OK: "ok", Cleanup: "cleanup", Force: "force", Critical: "critical"}

// Levels are those at which something may be evicted, lowest first.
func Levels() []Level { return []Level{Cleanup, Force, Critical} }

// ParseLevel reads a level's name, "ok" included: whoever wants a level to act
// at has to refuse OK itself.
func ParseLevel(s string) (Level, error) {
	for l, name := range levelNames {
		if s == name {
			return Level(l), nil
		}
	}
	return OK, fmt.Errorf("level %q is unknown: write cleanup, force or critical (or ok, where nothing is to act)", s)
}

func (l Level) String() string {
	if l < OK || l > Critical {
		return fmt.Sprintf("level(%d)", int(l))
	}
	return levelNames[l]
}

// MarshalText writes the level's name, so that levels are words in JSON, also as the keys of a map.
func (l Level) MarshalText() ([]byte, error) {
	if l < OK || l > Critical {
		return nil, fmt.Errorf("level %d has no name", int(l))
	}
	return []byte(levelNames[l]), nil
}

// UnmarshalText is the inverse of MarshalText.
func (l *Level) UnmarshalText(text []byte) error {
	parsed, err := ParseLevel(string(text))
	if err == nil {
		*l = parsed
	}
	return err
}

// Thresholds are the shares of the memory limit at which the levels begin: 0.60 is 60 %.
type Thresholds struct{ Cleanup, Force, Critical float64 }

// LevelOf says which level a used share of the limit has reached. A share that
// is not a number is OK: what is unknown evicts nothing.
func (t Thresholds) LevelOf(ratio float64) Level {
	switch {
	case ratio >= t.Critical:
		return Critical
	case ratio >= t.Force:
		return Force
	case ratio >= t.Cleanup:
		return Cleanup
	}
	return OK
}

// Of is the share at which a level begins; 0 for OK.
func (t Thresholds) Of(l Level) float64 {
	switch l {
	case Cleanup:
		return t.Cleanup
	case Force:
		return t.Force
	case Critical:
		return t.Critical
	}
	return 0
}

// Validate refuses thresholds that are not 0 < cleanup < force < critical ≤ 1:
// with two alike, one of the levels could never be told from the other.
func (t Thresholds) Validate() error {
	// Written so that a NaN fails.
	if 0 < t.Cleanup && t.Cleanup < t.Force && t.Force < t.Critical && t.Critical <= 1 {
		return nil
	}
	return fmt.Errorf("levels cleanup %g %%, force %g %%, critical %g %% are out of order: each must lie above the one before, all above 0 and none above 100 %%",
		100*t.Cleanup, 100*t.Force, 100*t.Critical)
}
