package ttlpolicy

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	// outlookPart is into how many parts of the lifetime an outlook sorts remaining TTLs, up to twice the lifetime.
	outlookPart = 720
	outlookBins = 2 * outlookPart

	// z999 is two-sided 99.9 %, and noneSeen999 the most to be expected with it where nothing was seen: -ln 0.0005.
	z999        = 3.290527
	noneSeen999 = 7.601

	// movedShare is by what share, beyond what sampling explains, a keyspace may differ from what was planned.
	movedShare = 0.05

	// edgeSlack is by how much clocks, and the time that a survey takes, may misplace a key that is just
	// about to expire or to become old enough.
	edgeSlack = time.Second
)

// Outlook is what a survey saw of a family, in a form that tells how many keys may go at a later time too.
// Keys count by their remaining TTL at time zero, in bins of 1/720 of the lifetime. Idle times are left
// out, since every read moves them; so are floors, and protected keys.
type Outlook struct {
	Due    Bins  `json:"due"`    // keys that the level lets go
	Young  Bins  `json:"young"`  // keys that it will let go when they are older
	Beyond int64 `json:"beyond"` // likewise, with a TTL of more than twice the lifetime
	NoTTL  int64 `json:"no_ttl"` // keys without TTL that it lets go
}

// Bins count keys by remaining TTL, without the zeros at the end. As text they are "bin:keys" for each bin
// that holds some.
type Bins []int64

// MarshalText writes the bins that hold keys.
func (b Bins) MarshalText() ([]byte, error) {
	var text []byte
	for i, n := range b {
		if n > 0 {
			text = fmt.Appendf(text, " %d:%d", i, n)
		}
	}
	return bytes.TrimPrefix(text, []byte(" ")), nil
}

// UnmarshalText reads what MarshalText writes.
func (b *Bins) UnmarshalText(text []byte) error {
	*b = nil
	for word := range strings.FieldsSeq(string(text)) {
		place, keys, _ := strings.Cut(word, ":")
		i, err := strconv.ParseUint(place, 10, 32)
		n, err2 := strconv.ParseUint(keys, 10, 62)
		if err != nil || err2 != nil || i >= outlookBins {
			return fmt.Errorf("bins of TTLs hold %.40q, which is none", word)
		}
		for len(*b) <= int(i) {
			*b = append(*b, 0)
		}
		(*b)[i] = int64(n)
	}
	return nil
}

// Sample is how many keys a survey looked at, of how many.
type Sample struct {
	Looked     int64 `json:"looked"`
	Population int64 `json:"population"`
	Exact      bool  `json:"exact"` // every key was looked at
	// Stale is the share of the population that had expired and was not removed yet: such keys count in
	// DBSIZE and are never drawn.
	Stale float64 `json:"stale"`
}

// outlook counts while a census is taken.
type outlook struct {
	due, young    [outlookBins]uint32
	beyond, noTTL int64
}

func (o *outlook) add(r Rule, level Level, f Facts, elapsed time.Duration) {
	if _, acts := r.MaxTTL(level); !acts || f.Protected {
		return
	}
	r.MinIdle = 0
	eligible := r.Judge(level, f).Eligible
	switch {
	case f.Expiry == Persistent && eligible:
		o.noTTL++
	case f.Expiry == Expiring && f.TTL >= 0:
		bin := outlookBin(f.TTL, elapsed, r.Lifetime)
		switch {
		case eligible:
			o.due[min(bin, outlookBins-1)]++
		case bin < outlookBins:
			o.young[bin]++
		default:
			o.beyond++
		}
	}
}

// outlookBin is the bin of a TTL at time zero. Bins hold their upper edges.
func outlookBin(ttl, elapsed, lifetime time.Duration) int {
	zero := float64(ttl) + float64(max(elapsed, 0))
	return int(min(max(math.Ceil(zero/float64(lifetime)*outlookPart)-1, 0), outlookBins))
}

// Outlook is what the census saw of a family that may go, now or later.
func (c *Census) Outlook(family int) Outlook {
	o := &c.families[family].outlook
	return Outlook{Due: trimmed(o.due[:]), Young: trimmed(o.young[:]), Beyond: o.beyond, NoTTL: o.noTTL}
}

// trimmed leaves out the zeros at the end.
func trimmed(bins []uint32) Bins {
	end := len(bins)
	for end > 0 && bins[end-1] == 0 {
		end--
	}
	whole := make(Bins, end)
	for i := range whole {
		whole[i] = int64(bins[i])
	}
	return whole
}

// Sample is how many keys the census is from.
func (c *Census) Sample() Sample {
	return Sample{Looked: c.looked, Population: int64(c.size()), Exact: c.exact || !c.counted}
}

// hits are keys that were seen: surely so many, by the best guess, and at most.
type hits struct{ low, mid, high float64 }

// at is how many of the keys seen may go a time after time zero: what was due and has not expired, and
// what has become old enough. Nobody is taken to have written anything.
func (o Outlook) at(r Rule, level Level, after time.Duration) hits {
	maxTTL, _ := r.MaxTTL(level)
	h := hits{float64(o.NoTTL), float64(o.NoTTL), float64(o.NoTTL)}
	width := float64(r.Lifetime) / outlookPart
	add := func(bins Bins, upTo float64) {
		for i, n := range bins {
			from, to := float64(i)*width, float64(i+1)*width
			alive, slack := float64(after), float64(edgeSlack)
			if from >= alive+slack && to <= upTo-slack {
				h.low += float64(n)
			}
			if to > alive-slack && from < upTo+slack {
				h.high += float64(n)
			}
			h.mid += float64(n) * max(0, min(to, upTo)-max(from, alive)) / width
		}
	}
	add(o.Due, math.Inf(1)) // TTLs only fall, so what was due stays so
	ripe := float64(maxTTL) + float64(after)
	add(o.Young, ripe)
	if ripe+float64(edgeSlack) > 2*float64(r.Lifetime) {
		h.high += float64(o.Beyond)
	}
	return h
}

// count scales hits to the population, with the 99.9 % interval.
func (s Sample) count(h hits) hits {
	if s.Exact {
		return h
	}
	looked, population := float64(s.Looked), float64(s.Population)
	low, _ := wilson(h.low, looked, z999, noneSeen999)
	_, high := wilson(h.high, looked, z999, noneSeen999)
	mid := 0.0
	if looked > 0 {
		mid = h.mid / looked * population * (1 - s.Stale)
	}
	// The share of stale keys is itself a guess of the server's.
	return hits{min(low*population*max(0, 1-2*s.Stale), mid), mid, max(high*population, mid)}
}

// Shift is how many keys of a family may go now, beside how many a plan lets expect.
type Shift struct {
	Expected, ExpectedLow, ExpectedHigh float64
	Now, NowLow, NowHigh                float64
	// Moved is whether they differ by more than the 99.9 % interval of both counts together explains, and
	// 5 % of what was expected.
	Moved bool
}

// Compare holds what a later census finds of a family against a plan's outlook, advanced by the time
// between the two time zeros; seeing is the time that the later survey took. What has expired since the
// plan, or has become old enough, is expected to have.
func (c *Census) Compare(family int, plan Outlook, of, now Sample, between, seeing time.Duration) Shift {
	r := c.families[family].Rule
	// At the later survey's end: what expires in its course it may have seen, or not.
	then := of.count(plan.at(r, c.level, between+seeing))
	here := now.count(c.Outlook(family).at(r, c.level, seeing))
	difference := here.mid - then.mid
	// Two intervals make one of their difference by the squares of their arms (Zou and Donner's MOVER).
	least := difference - math.Hypot(here.mid-here.low, then.high-then.mid)
	most := difference + math.Hypot(here.high-here.mid, then.mid-then.low)
	allowed := movedShare * then.mid
	return Shift{then.mid, then.low, then.high, here.mid, here.low, here.high, least > allowed || most < -allowed}
}
