package ttlpolicy

import (
	"math"
	"slices"
)

// Solve finds the cuts, one a family, that free need bytes: families in order,
// within one keys without TTL first and then by least remaining TTL. The last
// band is taken whole, so that they free at least need and at most a band more.
// Families behind the one that suffices give nothing.
//
// Missing is what the estimate falls short of need even when all that is
// eligible goes. KeepNewest bounds what Solve reckons with, not the cut of a
// family that goes entirely: KeepNewestCut is a floor to hold besides.
func (c *Census) Solve(need int64) (cuts []Cut, missing int64) {
	cuts = c.takeNone()
	left := float64(need)
	for i := range c.families {
		if left <= 0 {
			return cuts, 0
		}
		f := &c.families[i]
		var taken tally
		enough := false
		for cut, b := range f.steps(c.scale()) {
			taken.add(b, 1)
			if enough = c.price(f, taken).bytes*c.scale() >= left; enough {
				cuts[i] = cut
				break
			}
		}
		if enough {
			return cuts, 0
		}
		cuts[i] = TakeAll()
		left -= c.price(f, taken).bytes * c.scale()
	}
	return cuts, whole(max(left, 0))
}

// Needed is what goes of a family.
type Needed struct{ Keys, Bytes int64 }

// Needed says how many keys of each family a run takes that goes by these cuts and stops as soon as need bytes are free,
// or most keys gone. Cuts take their last step whole, which may be many keys of one age: the run stops in its middle.
func (c *Census) Needed(cuts []Cut, need, most int64) []Needed {
	all, scale := make([]Needed, len(c.families)), c.scale()
	bytes, keys := float64(need), float64(most)
	for i := range c.families {
		f := &c.families[i]
		var taken tally
		enough := false
		for step, b := range f.steps(scale) {
			if !cuts[i].reaches(step) {
				break
			}
			with := taken
			with.add(b, 1)
			share := 1.0
			for _, limit := range []struct{ room, before, after float64 }{
				{bytes, c.price(f, taken).bytes * scale, c.price(f, with).bytes * scale},
				{keys, taken.keys * scale, with.keys * scale},
			} {
				if limit.after > limit.room {
					enough = true
					share = min(share, max(limit.room-limit.before, 0)/(limit.after-limit.before))
				}
			}
			if taken.add(b, share); enough {
				break
			}
		}
		if !enough { // to the waterline, which may lie within a step
			taken = f.below(cuts[i], scale)
		}
		freed := c.price(f, taken).bytes * scale
		if all[i] = (Needed{whole(taken.keys * scale), whole(freed)}); enough {
			all[i].Keys = whole(math.Ceil(taken.keys*scale - roundingNoise)) // a part of a key goes as a whole one
		}
		if bytes, keys = bytes-freed, keys-taken.keys*scale; enough || bytes <= 0 || keys <= 0 {
			break
		}
	}
	return all
}

// roundingNoise keeps a sum that is off by its last bits from being rounded up to one key more.
const roundingNoise = 1e-6

// SolveLow is Solve made cautious, for a first walk: cuts that with 97.5 % free
// no more than need, so that the walk doesn't reach the target half-way and
// leave older keys than it took. It allows for the sampling error, and for slack,
// the share by which the bytes may err besides. It takes nothing at all where a
// single step, such as all keys without TTL, may already be more than need.
func (c *Census) SolveLow(need int64, slack float64) []Cut {
	chosen := c.takeNone()
	if need <= 0 {
		return chosen
	}
	cuts := c.takeNone()
	var before sum // of the families that go entirely
	for i := range c.families {
		f := &c.families[i]
		var taken tally
		high := func() float64 {
			total := before
			total.add(c.price(f, taken))
			_, _, high := c.weigh(total, slack)
			return high
		}
		for cut, b := range f.steps(c.scale()) {
			taken.add(b, 1)
			// Not the first step that exceeds need ends it: a bound from few
			// keys is wide, and one from more keys may lie below it.
			if cuts[i] = cut; high() <= float64(need) {
				copy(chosen, cuts)
			}
		}
		if cuts[i] = TakeAll(); high() < float64(need) {
			copy(chosen, cuts)
		}
		before.add(c.price(f, taken))
	}
	return chosen
}

// StepBack is cuts without the last of their steps: the one band, or all keys without TTL, that would
// go last.
func (c *Census) StepBack(cuts []Cut) []Cut {
	shorter := slices.Clone(cuts)
	for i, cut := range slices.Backward(cuts) {
		last, before := TakeNone(), TakeNone()
		for step := range c.families[i].steps(c.scale()) {
			if !cut.reaches(step) {
				break
			}
			last, before = step, last
		}
		if last != TakeNone() {
			shorter[i] = before
			break
		}
	}
	return shorter
}

func (c *Census) takeNone() []Cut {
	cuts := make([]Cut, len(c.families))
	for i := range cuts {
		cuts[i] = TakeNone()
	}
	return cuts
}
