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
	// trust is the share of what is left for which the estimate's word stands against what was measured.
	trust = 0.25
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
	lines := waterlines{nodeJob: n}
	for {
		lines.walks++
		n.cuts = cuts
		n.report.Walks = lines.walks
		census, err := n.walk(ctx, cuts, earlier)
		if err != nil {
			return err
		}
		if n.ledger.stopped() != "" {
			return n.ledger.err
		}
		if !higher(n.ceiling(), cuts) {
			n.ledger.stop(Exhausted, nil)
			return nil
		}
		if lines.counted == nil {
			// Later walks meet only what this one has left, and perhaps only one family's.
			lines.counted = census
		}
		earlier = cuts
		if cuts, err = lines.raise(ctx); err != nil || cuts == nil {
			return err
		}
		n.ledger.nextWalk(lines.counted, cuts, earlier)
	}
}

// firstCuts are cautious where a target is to be met: cuts of which it is near certain that they
// don't free too much, so that the walk goes to its end and takes the oldest keys everywhere. Where
// none are, the first walk only counts.
func (n *nodeJob) firstCuts() []ttlpolicy.Cut {
	if n.unlimited() {
		return n.takeAll()
	}
	return n.below(cautious(n.census, n.aimBytes()))
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

// waterlines is where the cuts of a run have come to.
type waterlines struct {
	*nodeJob
	counted *ttlpolicy.Census // what the first walk saw, which was every key
	walks   int
	// Up to the last walk but one: what the cuts take by the census' count, and what memory fell by.
	taken, drop int64
}

// raise reads memory after a walk and finds the next cuts; none where the run is over. With every key
// counted they are exact but for what an estimate of bytes may miss and for what others write
// meanwhile, and both show in what has really been freed.
func (w *waterlines) raise(ctx context.Context) ([]ttlpolicy.Cut, error) {
	left, drop, err := w.ledger.left(ctx)
	if err != nil {
		return nil, err
	}
	if left <= 0 {
		w.ledger.stop(TargetReached, nil)
		return nil, nil
	}
	keys, taken := toll(w.counted, w.cuts)
	more, slack := 0.0, 0.0
	if left != math.MaxInt64 {
		more = w.more(float64(left), float64(taken), float64(drop))
		slack = min(raiseSlack*more, raiseMost*float64(w.reading.Counted))
	}
	w.taken, w.drop = taken, drop
	goneKeys, goneBytes := w.ledger.gone()
	until := func(more float64) int64 {
		need := int64(math.MaxInt64)
		if left != math.MaxInt64 {
			need = taken + int64(more)
		}
		return w.within(w.counted, need, taken-goneBytes, keys-goneKeys)
	}
	if w.walks < maxWalks {
		cuts := cautious(w.counted, until(more))
		if keys > 0 {
			cuts = w.upTo(until(more), until(more+slack))
		}
		if cuts = w.below(cuts); higher(cuts, w.cuts) {
			return cuts, nil
		}
	}
	return oneFamilyOn(w.cuts, w.ceiling()), nil
}

// more is what the next walk must take for memory to fall by what is left.
func (w *waterlines) more(left, taken, drop float64) float64 {
	if w.walks == 1 {
		// The estimate is off by the share that the walk tells. Little taken says little of much that is left.
		ratio := (taken + trust*left) / (max(drop, 0) + trust*left)
		return left * min(max(ratio, 0.5), 2)
	}
	// The last walk took little and by a corrected estimate: what memory did not fall by, others have
	// written, and will have again.
	return left + max(0, taken-float64(w.taken)-(drop-float64(w.drop)))
}

// upTo finds the cuts that free need, or up to most if that is only a little more. Where their last
// step is a heavy one, a huge value or many keys of one age, the older keys are given a walk before it:
// it would reach the target in the middle of them.
func (w *waterlines) upTo(need, most int64) []ttlpolicy.Cut {
	lighter := func(cuts []ttlpolicy.Cut) ([]ttlpolicy.Cut, bool) {
		before := w.counted.StepBack(cuts)
		_, with := toll(w.counted, cuts)
		_, without := toll(w.counted, before)
		return before, float64(with-without) > raiseMost*float64(w.reading.Counted)
	}
	cuts, _ := w.counted.Solve(need)
	if before, heavy := lighter(cuts); heavy {
		if higher(before, w.cuts) {
			return before
		}
		return cuts
	}
	cuts, _ = w.counted.Solve(most)
	if before, heavy := lighter(cuts); heavy {
		return before
	}
	return cuts
}

// oneFamilyOn takes all of the first family that has not gone as far as it may yet.
func oneFamilyOn(cuts, ceiling []ttlpolicy.Cut) []ttlpolicy.Cut {
	next := slices.Clone(cuts)
	for i := range next {
		next[i] = ceiling[i]
		if higher(ceiling[i:i+1], cuts[i:i+1]) {
			break
		}
	}
	return next
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
	return l.goneKeys, int64(l.takenBytes)
}

// nextWalk has what comes belong to another walk.
func (l *ledger) nextWalk(census *ttlpolicy.Census, cuts, earlier []ttlpolicy.Cut) {
	l.expect(census, cuts, earlier)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.walk++
	l.approach.newWalk()
}
