package ttlpolicy

import (
	"math"
	"time"
)

// family is what a census knows of one family. The counts are of the keys that
// were seen; whoever asks scales them to the population.
type family struct {
	Rule
	maxTTL time.Duration
	acts   bool // the level lets some age of the family go

	matched    int64
	unknownAge int64

	// Of all keys whose size was measured, kept ones too.
	sized, bytes     float64
	logs, logSquares float64 // Σ ln size, Σ ln² size

	eligible, kept histogram
	persistent     band // eligible keys without TTL
	outlook        outlook

	withTTL, old, over int64 // keys with a TTL; those of the level's age; those above the lifetime
	highest            time.Duration

	doubt float64 // share by which all sizes may err together
}

func (f *family) add(level Level, facts Facts, bytes float64, elapsed time.Duration) Verdict {
	v := f.Judge(level, facts)
	if facts.Expiry == Missing {
		return v
	}
	f.matched++
	f.outlook.add(f.Rule, level, facts, elapsed)
	if measured(bytes) {
		ln := math.Log(max(bytes, 1))
		f.sized++
		f.bytes += bytes
		f.logs += ln
		f.logSquares += ln * ln
	}
	if facts.Expiry == Expiring && facts.TTL >= 0 {
		f.addTTL(facts.TTL)
	}
	switch {
	case v.AgeKnown:
		// Compared with the room above rather than added: a sum could overflow.
		ttl := f.Lifetime
		if elapsed = max(elapsed, 0); elapsed < f.Lifetime-facts.TTL {
			ttl = facts.TTL + elapsed
		}
		h := &f.kept
		if v.Eligible {
			h = &f.eligible
		}
		h.at(bandOf(ttl, f.Lifetime)).add(bytes)
	case v.Eligible:
		f.persistent.add(bytes)
	}
	if !v.AgeKnown {
		f.unknownAge++
	}
	return v
}

// addTTL counts for the lints, which judge the rule and not its exceptions.
func (f *family) addTTL(ttl time.Duration) {
	f.withTTL++
	if ttl > f.Lifetime {
		f.over++
		f.highest = max(f.highest, ttl)
	} else if f.acts && ttl <= f.maxTTL {
		f.old++
	}
}

// floor is the lowest band that KeepNewest keeps whole, with all above it, and
// whether keys without TTL may go: not where the family has too few others.
func (f *family) floor(scale float64) (band int, persistent bool) {
	if f.KeepNewest <= 0 {
		return bands, true
	}
	left := float64(f.KeepNewest)
	for i := bands - 1; i >= 0; i-- {
		left -= scale * (float64(f.eligible.keys(i)) + float64(f.kept.keys(i)))
		if left <= 0 {
			return i, true
		}
	}
	return 0, false
}

// steps yields what may go, in the order in which it goes, each with the cut
// that ends behind it: keys without TTL, then bands by rising TTL.
func (f *family) steps(scale float64) func(yield func(Cut, band) bool) {
	return func(yield func(Cut, band) bool) {
		floor, persistent := f.floor(scale)
		persistent = persistent && f.persistent.keys > 0
		if persistent && !yield(Cut{Persistent: true, None: true}, f.persistent) {
			return
		}
		for i, b := range f.eligible.each {
			// Keys without TTL go before these, also those that were not seen.
			if i >= floor || !yield(Cut{Persistent: f.EvictNoTTL, TTL: edge(i+1, f.Lifetime)}, b) {
				return
			}
		}
	}
}

// below sums up what a cut takes; of a band that the waterline crosses, its share.
func (f *family) below(cut Cut, scale float64) tally {
	var t tally
	for step, b := range f.steps(scale) {
		share := 1.0
		switch {
		case step.None:
			if !cut.Persistent {
				share = 0
			}
		case cut.None:
			share = 0
		case !cut.All && cut.TTL < step.TTL:
			i := bandOf(step.TTL, f.Lifetime)
			low := edge(i, f.Lifetime)
			share = max(0, float64(cut.TTL-low)/float64(step.TTL-low))
		}
		t.add(b, share)
	}
	return t
}

// knownAges counts the keys seen in a band and in all above it.
func (f *family) knownAges(from int) (n int64) {
	for i := from; i < bands; i++ {
		n += int64(f.eligible.keys(i)) + int64(f.kept.keys(i))
	}
	return n
}

// ttlAt is the remaining TTL that a share of the keys of known age does not
// exceed, to the upper edge of its band.
func (f *family) ttlAt(share float64) time.Duration {
	i := 0
	for left := math.Ceil(share * float64(f.knownAges(0))); left > 0; i++ {
		left -= float64(f.eligible.keys(i)) + float64(f.kept.keys(i))
	}
	return edge(i, f.Lifetime)
}
