package ttlpolicy

import (
	"fmt"
	"math"
	"time"
)

// Lint is a remark on a rule that the keys don't bear out: what was seen, and
// what to write instead. Lints warn, they don't block.
type Lint struct {
	Code    string // the contract's word
	Family  string
	Message string // one sentence or more, for a person
}

const (
	almostAll     = 0.90
	almostAllKeys = 10 // fewer say nothing of a rule
	// almostAllSurely is the share that must be certain, with 97.5 %, where keys were sampled.
	almostAllSurely = 0.80
	observedShare   = 0.90
	observedTop     = 0.99
	// Of keys spread evenly over their lifetime so many lie all below 90 % of it once in 2700 looks.
	observedAtLeast = 75
)

// Lints looks for rules that a census makes doubtful, in the families' order.
func (c *Census) Lints() []Lint {
	var lints []Lint
	for i := range c.families {
		f := &c.families[i]
		for _, l := range []struct{ code, message string }{
			{"rule_matches_almost_all", f.matchesAlmostAll(c.level, c.exact || !c.counted)},
			{"lifetime_over_observed", f.lifetimeOverObserved()},
			{"ttl_over_lifetime", f.ttlOverLifetime()},
		} {
			if l.message != "" {
				lints = append(lints, Lint{Code: l.code, Family: f.Family, Message: l.message})
			}
		}
	}
	return lints
}

func (f *family) matchesAlmostAll(level Level, exact bool) string {
	age := f.OlderThan[level]
	if age <= 0 || f.withTTL < almostAllKeys || float64(f.old) < almostAll*float64(f.withTTL) {
		return ""
	}
	if low, _ := proportion(float64(f.old), float64(f.withTTL)); !exact && low < almostAllSurely {
		return "" // of a rare family a sample has a few keys, which may all be old by chance
	}
	seen := fmt.Sprintf("family %s: older_than %s at %s holds for %d of the %d keys seen with a TTL",
		f.Family, FormatDuration(age), level, f.old, f.withTTL)
	third := f.Lifetime - f.ttlAt(1.0/3)
	if neat := third / step(third) * step(third); neat > age {
		third = neat
	}
	if third <= age {
		return fmt.Sprintf("%s, and no greater age tells a third of them from the rest; check that lifetime %s is the TTL they are written with",
			seen, FormatDuration(f.Lifetime))
	}
	return fmt.Sprintf("%s; for the oldest third write older_than: {%s: %s}, or 0s if all of them may go",
		seen, level, about(third))
}

func (f *family) lifetimeOverObserved() string {
	known := f.withTTL - f.over
	// A family above its lifetime throughout has the opposite fault.
	if known < observedAtLeast {
		return ""
	}
	top := f.ttlAt(observedTop)
	if float64(top) >= observedShare*float64(f.Lifetime) {
		return ""
	}
	suggested := roundUp(top)
	if suggested >= f.Lifetime {
		suggested = top
	}
	return fmt.Sprintf("family %s: of %d keys seen 99 %% have no more than %s left, though the policy says lifetime: %s; either their writers give less, "+
		"and ages are overstated (the keys suggest lifetime: %s), or nothing was written lately",
		f.Family, known, about(top), FormatDuration(f.Lifetime), about(suggested))
}

func (f *family) ttlOverLifetime() string {
	if f.over == 0 {
		return ""
	}
	return fmt.Sprintf("family %s: %d of the %d keys seen with a TTL have more left than lifetime: %s, up to %s, and are kept, since their age can't be told; "+
		"if every writer gives that much write lifetime: %s, else a family of their own for the longer-lived",
		f.Family, f.over, f.withTTL, FormatDuration(f.Lifetime), about(f.highest), about(roundUp(f.highest)))
}

func roundUp(d time.Duration) time.Duration {
	if rest := d % step(d); rest > 0 && d <= math.MaxInt64-day {
		return d + step(d) - rest
	}
	return d
}

// about writes a duration that was seen, which the policy's own are not.
func about(d time.Duration) string {
	if d > time.Minute {
		return FormatDuration(d.Round(time.Second))
	}
	return FormatDuration(d.Round(time.Millisecond))
}

// step is what people round a duration of this length to.
func step(d time.Duration) time.Duration {
	switch {
	case d > day:
		return 12 * time.Hour
	case d > 2*time.Hour:
		return 30 * time.Minute
	case d > 10*time.Minute:
		return 5 * time.Minute
	case d > time.Minute:
		return 30 * time.Second
	}
	return time.Second
}
