package ttlpolicy

import "time"

// Rule is what the policy says of one family.
type Rule struct {
	Family string
	// Lifetime is the shortest TTL that any writer of the family gives. With a
	// longer one a key would look older than it is.
	Lifetime time.Duration
	// EvictNoTTL lets keys without a TTL go (no_ttl: evict).
	EvictNoTTL bool
	// OlderThan is the age from which a level lets a key go. A level that is
	// absent lets nothing of the family go.
	OlderThan map[Level]time.Duration
	// KeepNewest is how many of the newest keys stay at least.
	KeepNewest int
	// MinIdle is how long a key must also have been unused; 0 asks nothing.
	MinIdle time.Duration
}

// MaxTTL is the highest remaining TTL that a level lets go: the lifetime less
// the level's age. It is false where the level lets nothing of the family go,
// also when the rule makes no sense (an age below zero or above the lifetime).
func (r Rule) MaxTTL(l Level) (time.Duration, bool) {
	age, ok := r.OlderThan[l]
	if !ok || l <= OK || age < 0 || age > r.Lifetime || r.Lifetime <= 0 {
		return 0, false
	}
	return r.Lifetime - age, true
}

// Expiry is what is known of a key's expiry.
type Expiry uint8

// PTTL's answers: no usable one, -1, a TTL, and -2.
const (
	UnknownExpiry Expiry = iota
	Persistent
	Expiring
	Missing
)

// Facts are what is known of one key. The zero value is "nothing", and is kept.
type Facts struct {
	Expiry    Expiry
	TTL       time.Duration // remaining; only when Expiring
	Protected bool
	IdleKnown bool
	Idle      time.Duration // since the last use; only when IdleKnown
}

// Reason is the contract's word for why a key is kept; "" where it may go.
type Reason string

// The reasons. Judge gives Protected, Unknown, NoTTL, TTLOverLifetime, Fresh
// and NotIdle; the others come from the walk.
const (
	ReasonNone            Reason = ""
	ReasonFresh           Reason = "fresh"
	ReasonNoTTL           Reason = "no_ttl"
	ReasonTTLOverLifetime Reason = "ttl_over_lifetime"
	ReasonProtected       Reason = "protected"
	ReasonNotIdle         Reason = "not_idle"
	ReasonAboveWaterline  Reason = "above_waterline"
	ReasonNewest          Reason = "newest"
	ReasonTooLarge        Reason = "too_large"
	ReasonMoved           Reason = "moved"
	ReasonUnknown         Reason = "unknown"
)

// Verdict is a level's judgement of one key.
type Verdict struct {
	Eligible bool
	Reason   Reason        // why it is kept; ReasonNone when eligible
	Age      time.Duration // lifetime less remaining TTL; only when AgeKnown
	AgeKnown bool
}

// Judge says whether a level lets a key go, and if not, the first reason in
// this order: protected, unknown, no_ttl, ttl_over_lifetime, fresh, not_idle.
//
// A level that is left out finds every key fresh (or no_ttl). A key that is
// Missing is "unknown": there is nothing to judge, and the walk that asked
// counts it as vanished.
func (r Rule) Judge(l Level, f Facts) Verdict {
	var v Verdict
	if f.Expiry == Expiring && f.TTL >= 0 && f.TTL <= r.Lifetime {
		v.Age, v.AgeKnown = r.Lifetime-f.TTL, true
	}
	v.Reason = r.keep(l, f)
	v.Eligible = v.Reason == ReasonNone
	return v
}

func (r Rule) keep(l Level, f Facts) Reason {
	maxTTL, acts := r.MaxTTL(l)
	switch {
	case f.Protected:
		return ReasonProtected
	case f.Expiry == Persistent:
		if !r.EvictNoTTL || !acts {
			return ReasonNoTTL
		}
	case f.Expiry != Expiring || f.TTL < 0:
		return ReasonUnknown
	case f.TTL > r.Lifetime:
		return ReasonTTLOverLifetime
	case !acts || f.TTL > maxTTL:
		return ReasonFresh
	}
	switch {
	case r.MinIdle <= 0:
		return ReasonNone
	case !f.IdleKnown:
		return ReasonUnknown
	case f.Idle < r.MinIdle:
		return ReasonNotIdle
	}
	return ReasonNone
}
