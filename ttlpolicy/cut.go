package ttlpolicy

import "time"

// Cut says how far down a family goes: its waterline. It says nothing of
// whether a key is eligible; Judge does.
type Cut struct {
	// Persistent lets keys without a TTL go.
	Persistent bool
	// None keeps every key with a TTL. It wins over All.
	None bool
	// All lets every eligible key go, with and without TTL: no waterline.
	All bool
	// TTL is the highest remaining TTL that goes, as seen at the census' time zero.
	TTL time.Duration
}

// TakeAll is the cut that lets all that is eligible go.
func TakeAll() Cut { return Cut{Persistent: true, All: true} }

// TakeNone is the cut that lets nothing go.
func TakeNone() Cut { return Cut{None: true} }

// Takes says whether a key lies below the waterline. Elapsed is the time since
// the census' time zero: a TTL has run down by as much since then, so that a
// waterline stays with its keys however long a walk takes.
func (c Cut) Takes(f Facts, elapsed time.Duration) bool {
	switch f.Expiry {
	case Persistent:
		return c.Persistent
	case Expiring:
		return !c.None && (c.All || f.TTL <= c.TTL-max(elapsed, 0))
	}
	return false
}

// Within is a cut that takes what both take.
func (c Cut) Within(most Cut) Cut {
	both := Cut{Persistent: c.Persistent && most.Persistent, None: c.None || most.None}
	switch {
	case both.None:
	case c.All && most.All:
		both.All = true
	case c.All:
		both.TTL = most.TTL
	case most.All:
		both.TTL = c.TTL
	default:
		both.TTL = min(c.TTL, most.TTL)
	}
	return both
}

// reaches is whether a cut takes what another ends with.
func (c Cut) reaches(step Cut) bool {
	if step.None {
		return c.Persistent
	}
	return !c.None && (c.All || step.TTL <= c.TTL)
}
