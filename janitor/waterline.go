package janitor

import (
	"context"
	"math"
	"slices"

	"redis-janitor/ttlpolicy"
)

const (
	// maxWalks bounds how often the waterlines are raised by what a reading says is left to free. From
	// then on each walk takes a whole family.
	maxWalks = 8
	// modelSlack is the share by which bytes may be misjudged even when every key was counted. The first
	// walk stays below the target by it, so that it ends where the waterline says and not in its middle.
	modelSlack = 0.03
	// raiseSlack is the share of what is left that a raised waterline goes beyond it, and raiseMost the
	// share of all memory that this comes to at most: the walk then reaches the target and stops there,
	// which saves another walk and leaves no more than so many keys out of order.
	raiseSlack = 0.05
	raiseMost  = 0.004
)

// evict walks the keyspace until the target is reached or nothing eligible is left. Each walk takes
// what lies below the waterline; the next one has the waterline raised by what memory says then.
func (n *nodeJob) evict(ctx context.Context) error {
	if n.acts() && n.need() == 0 {
		n.ledger.stop(TargetReached, nil)
		return nil
	}
	cuts := n.firstCuts()
	n.ledger.expect(n.census, cuts, nil)
	var earlier []ttlpolicy.Cut
	var counted *ttlpolicy.Census
	for walk := 1; ; walk++ {
		n.cuts = cuts
		n.report.Walks = walk
		census, err := n.walk(ctx, cuts, earlier)
		if err != nil {
			return err
		}
		if n.ledger.stopped() != "" {
			return n.ledger.err
		}
		if everything(cuts) {
			n.ledger.stop(Exhausted, nil)
			return nil
		}
		if walk == 1 {
			// Later walks meet only what this one has left, and perhaps only one family's.
			counted = census
		}
		earlier = cuts
		if cuts, err = n.raise(ctx, counted, walk); err != nil || cuts == nil {
			return err
		}
		n.ledger.nextWalk(counted, cuts, earlier)
	}
}

// firstCuts are cautious where a target is to be met: cuts of which it is near certain that they
// don't free too much, so that the walk goes to its end and takes the oldest keys everywhere. Where
// none are, the first walk only counts.
func (n *nodeJob) firstCuts() []ttlpolicy.Cut {
	if n.unlimited() {
		return n.takeAll()
	}
	return cautious(n.census, n.aimBytes())
}

// cautious cuts free no more than need, unless the keys that go first can't be told apart: then any
// of them may go, and the walk stops when it is enough.
func cautious(census *ttlpolicy.Census, need int64) []ttlpolicy.Cut {
	first, _ := census.Solve(1)
	if all, _ := census.Solve(need); slices.Equal(all, first) {
		return first
	}
	return census.SolveLow(need, modelSlack)
}

// raise reads memory after a walk and finds the next cuts; none where the run is over. The first walk
// has counted every key, so these are exact but for what an estimate of bytes may miss, and that is
// corrected by what has really been freed.
func (n *nodeJob) raise(ctx context.Context, counted *ttlpolicy.Census, walk int) ([]ttlpolicy.Cut, error) {
	left, drop, err := n.ledger.left(ctx)
	if err != nil {
		return nil, err
	}
	if left <= 0 {
		n.ledger.stop(TargetReached, nil)
		return nil, nil
	}
	keys, bytes := toll(counted, n.cuts)
	more, slack := 0.0, 0.0
	if left != math.MaxInt64 {
		// What was taken by the census' count against what memory fell by. Others write meanwhile, so
		// this is bounded.
		ratio := 1.0
		if drop > 0 && bytes > 0 {
			ratio = min(max(float64(bytes)/float64(drop), 0.5), 2)
		}
		more = ratio * float64(left)
		slack = min(raiseSlack*more, raiseMost*float64(n.reading.Counted))
	}
	goneKeys, goneBytes := n.ledger.gone()
	until := func(more float64) int64 {
		need := int64(math.MaxInt64)
		if left != math.MaxInt64 {
			need = bytes + int64(more)
		}
		return n.within(counted, need, bytes-goneBytes, keys-goneKeys)
	}
	if walk < maxWalks {
		cuts, _ := counted.Solve(until(more + slack))
		if keys == 0 {
			cuts = cautious(counted, until(more))
		}
		if higher(cuts, n.cuts) {
			return cuts, nil
		}
	}
	return oneFamilyOn(n.cuts), nil
}

// oneFamilyOn takes all of the first family that has not gone whole yet.
func oneFamilyOn(cuts []ttlpolicy.Cut) []ttlpolicy.Cut {
	next := slices.Clone(cuts)
	for i, c := range next {
		next[i] = ttlpolicy.TakeAll()
		if !c.All {
			break
		}
	}
	return next
}

func everything(cuts []ttlpolicy.Cut) bool {
	return !slices.ContainsFunc(cuts, func(c ttlpolicy.Cut) bool { return !c.All })
}

// higher is whether some waterline lies above its earlier one.
func higher(cuts, earlier []ttlpolicy.Cut) bool {
	for i, c := range cuts {
		e := earlier[i]
		switch {
		case e.All:
		case c.All, c.Persistent && !e.Persistent, !c.None && e.None, !c.None && !e.None && c.TTL > e.TTL:
			return true
		}
	}
	return false
}

// toll is how many keys and bytes cuts take by a census.
func toll(census *ttlpolicy.Census, cuts []ttlpolicy.Cut) (keys, bytes int64) {
	for i, cut := range cuts {
		e := census.Estimate(i, cut)
		keys += e.Evict
		bytes += e.EvictBytes
	}
	return keys, bytes
}

// aimBytes is the need, as far as --max-keys and --max-bytes let it go.
func (n *nodeJob) aimBytes() int64 { return n.within(n.census, n.need(), 0, 0) }

// within is the need, less where --max-keys or --max-bytes end the run earlier: what they let go must
// then be the oldest keys of the first families too. Bytes and keys are how much of the need by that
// census has been dealt with and doesn't count.
func (n *nodeJob) within(census *ttlpolicy.Census, need, bytes, keys int64) int64 {
	if n.req.MaxBytes > 0 {
		need = min(need, n.req.MaxBytes+bytes)
	}
	if n.req.MaxKeys <= 0 {
		return need
	}
	most := n.req.MaxKeys + keys
	eligible, _, _ := census.EligibleBytes()
	low, high := int64(0), min(need, eligible+1)
	for low < high {
		middle := low + (high-low)/2
		cuts, _ := census.Solve(middle)
		if evicted, _ := toll(census, cuts); evicted < most {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if cuts, _ := census.Solve(high); high > 0 {
		if evicted, _ := toll(census, cuts); evicted < most {
			return need
		}
	}
	return high
}

// left is how many bytes are still to go by a fresh reading, and how many the server counts less than
// at the beginning.
func (l *ledger) left(ctx context.Context) (left, drop int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopAt < 0 {
		return math.MaxInt64, 0, nil
	}
	if err := l.read(ctx); err != nil {
		return 0, 0, err
	}
	return l.used - l.stopAt, l.n.reading.Counted - l.used, nil
}

// gone is what the run has evicted so far, or may have, by its own estimate.
func (l *ledger) gone() (keys, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.goneKeys, int64(l.goneBytes)
}

// nextWalk has what comes belong to another walk.
func (l *ledger) nextWalk(census *ttlpolicy.Census, cuts, earlier []ttlpolicy.Cut) {
	l.expect(census, cuts, earlier)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.walk++
}
