package ttlpolicy

import (
	"math"
	"time"
)

// Census is what a survey has learnt of one node's keyspace: a fair sample
// drawn with replacement (RANDOMKEY), or a walk that looked at every key. Its
// memory is fixed per family, whatever the number of keys: about 100 KB, and
// twice that where protection or idle times keep keys of every age.
//
// Remaining TTLs are put back to time zero, the survey's start, so that keys
// seen early and late can be compared. Not safe for concurrent use.
type Census struct {
	level      Level
	families   []family
	looked     int64
	population int64
	stale      float64 // share of the population that has expired and is still counted
	counted    bool    // Population was called
	exact      bool
}

// NewCensus begins a census for one level, with the rules in the policy's order.
func NewCensus(level Level, rules []Rule) *Census {
	c := &Census{level: level, families: make([]family, len(rules))}
	for i, r := range rules {
		c.families[i].Rule = r
		c.families[i].maxTTL, c.families[i].acts = r.MaxTTL(level)
	}
	return c
}

// Look counts n keys as drawn or scanned, those of no family too.
func (c *Census) Look(n int) { c.looked += int64(n) }

// Add judges a key of a family (an index into the rules) and counts it. Bytes
// is what deleting it frees, below zero where that was not measured: it then
// takes the family's mean. Elapsed is the time since time zero; a key written
// since then counts as the newest. A Missing key is judged, not counted.
func (c *Census) Add(family int, f Facts, bytes float64, elapsed time.Duration) Verdict {
	return c.families[family].add(c.level, f, bytes, elapsed)
}

// Population says how many keys the node holds (DBSIZE). Exact: every one of
// them was looked at, so that counts are what they are; else what was seen is
// scaled from the keys looked at to n. Without it what was seen stands for itself.
func (c *Census) Population(n int64, exact bool) {
	c.population, c.exact, c.counted = max(n, 0), exact, true
}

// Stale says what share of the population has expired and is still counted: a sample draws none of these, and neither
// frees nor counts them. The share is itself an estimate, which intervals allow for.
func (c *Census) Stale(share float64) { c.stale = min(max(share, 0), 1) }

// Doubt says by what share the sizes of a family's keys may err besides chance, all to the same side: intervals
// of bytes are widened by it.
func (c *Census) Doubt(family int, share float64) { c.families[family].doubt = max(share, 0) }

// size is how many keys the estimates are about.
func (c *Census) size() float64 {
	if !c.counted || c.exact {
		return float64(c.looked)
	}
	return float64(c.population)
}

// scale is how many keys one that was seen stands for.
func (c *Census) scale() float64 {
	if c.looked == 0 {
		return 1
	}
	scale := c.size() / float64(c.looked)
	if !c.exact {
		scale *= 1 - c.stale
	}
	return scale
}

// Estimate is what a census says of one family. Intervals hold with 95 %.
// Bytes are 0 throughout where no key of any family was measured.
type Estimate struct {
	Matched int64
	// Eligible keys are those that policy and level let go, less the newest.
	Eligible, EligibleLow, EligibleHigh int64
	// NoTTL is how many of them have no TTL.
	NoTTL int64
	// Evict is how many of them a cut takes, EvictBytes what that frees.
	Evict, EvictBytes int64
	// Bytes is what taking all that is eligible frees.
	Bytes, BytesLow, BytesHigh int64
}

// Estimate says what there is of a family, and what a cut takes of it.
func (c *Census) Estimate(family int, cut Cut) Estimate {
	f, scale := &c.families[family], c.scale()
	all := f.below(TakeAll(), scale)
	taken := f.below(cut, scale)
	forever := f.below(Cut{Persistent: true, None: true}, scale)
	_, low, high := c.count(all.keys)
	bytes, bytesLow, bytesHigh := c.weigh(c.price(f, all), math.Hypot(modelShare, f.doubt))
	return Estimate{
		Matched:  whole(float64(f.matched) * scale),
		NoTTL:    whole(forever.keys * scale),
		Eligible: whole(all.keys * scale), EligibleLow: whole(low), EligibleHigh: whole(high),
		Evict: whole(taken.keys * scale), EvictBytes: whole(c.price(f, taken).bytes * scale),
		Bytes: whole(bytes), BytesLow: whole(bytesLow), BytesHigh: whole(bytesHigh),
	}
}

// EligibleBytes is what taking all that is eligible in all families frees, with its 95 % interval.
func (c *Census) EligibleBytes() (est, low, high int64) {
	var total sum
	doubt := 0.0
	for i := range c.families {
		f := &c.families[i]
		s := c.price(f, f.below(TakeAll(), c.scale()))
		total.add(s)
		doubt += f.doubt * s.bytes
	}
	if total.bytes > 0 {
		doubt /= total.bytes
	}
	e, l, h := c.weigh(total, math.Hypot(modelShare, doubt))
	return whole(e), whole(l), whole(h)
}

// ActiveWithin counts a family's keys of known age ≤ d, with the 95 % interval.
// An age in the last fraction of a band counts: too many users hold people's
// keys back, too few don't.
func (c *Census) ActiveWithin(family int, d time.Duration) (n, low, high float64) {
	f := &c.families[family]
	if d < 0 || f.Lifetime <= 0 {
		return 0, 0, 0
	}
	return c.count(float64(f.knownAges(bandOf(f.Lifetime-d, f.Lifetime))))
}

// UnknownAge counts a family's keys that have no age: no TTL, one above the
// lifetime, or none that could be read.
func (c *Census) UnknownAge(family int) (n float64) {
	return float64(c.families[family].unknownAge) * c.scale()
}

// Bin is a part of a family's age histogram: ages from From up to, not including, To.
type Bin struct {
	From, To    time.Duration
	Keys, Bytes int64
}

// Bins draws a family's keys of known age, eligible or not, into n bins over
// its lifetime, youngest first, scaled to the population.
func (c *Census) Bins(family, n int) []Bin {
	f, scale := &c.families[family], c.scale()
	if n <= 0 || f.Lifetime <= 0 {
		return nil
	}
	tallies := make([]tally, n)
	for _, h := range []*histogram{&f.eligible, &f.kept} {
		for i, b := range h.each {
			// A band goes whole where its middle lies, counted in ages.
			tallies[(2*(bands-1-i)+1)*n/(2*bands)].add(b, 1)
		}
	}
	bins := make([]Bin, n)
	var keys, bytes float64
	for i, t := range tallies {
		b := &bins[i]
		b.From, b.To = portion(f.Lifetime, i, n), portion(f.Lifetime, i+1, n)
		// Differences of rounded sums: the bins add up to the whole.
		b.Keys, b.Bytes = -whole(keys), -whole(bytes)
		keys += t.keys * scale
		bytes += c.price(f, t).bytes * scale
		b.Keys, b.Bytes = b.Keys+whole(keys), b.Bytes+whole(bytes)
	}
	return bins
}

// KeepNewestCut is the floor under KeepNewest: the highest remaining TTL at
// time zero that may go so that at least so many of the family's keys of known
// age stay, and whether keys without TTL may go. Below zero no key with a TTL
// may; where the family has fewer than KeepNewest of them, nothing may. It is
// false where the floor can't be told: on anything but an exact census.
func (c *Census) KeepNewestCut(family int) (maxTTL time.Duration, persistent bool, ok bool) {
	f := &c.families[family]
	if f.KeepNewest <= 0 {
		return math.MaxInt64, true, true
	}
	if !c.exact {
		return -1, false, false
	}
	floor, persistent := f.floor(1)
	if floor == 0 {
		return -1, persistent, true
	}
	return edge(floor, f.Lifetime), persistent, true
}

// whole rounds to a count or to bytes.
func whole(x float64) int64 {
	if x >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(math.Round(x))
}
