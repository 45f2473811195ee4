package janitor

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// ledger keeps account of what has gone, what is on its way, and what may still go. Batches are
// admitted before they are sent and settled when their answer is here, so that limits hold exactly,
// however many workers there are.
type ledger struct {
	n *nodeJob

	mu       sync.Mutex
	settled  *sync.Cond
	families []tally
	walk     int

	onWayKeys  int64
	goneKeys   int64 // evicted, or perhaps
	goneBytes  float64
	takenBytes float64 // of the evicted and of those that perhaps are: what limits go by

	used     int64 // by the last reading, as the server counts
	stopAt   int64 // the run's target in the same count; below zero: none
	approach approach
	unmarked string // why the cooldown's mark could not be set
	reason   Reason // why nothing more is admitted
	err      error
}

// tally counts one family's keys.
type tally struct {
	gone, refreshed, vanished, failed, uncertain int64
	missed                                       int64 // gone before they could be judged
	kept                                         Kept
	bytes                                        float64
	sized                                        int64 // keys on their way out whose size was asked for
	sizes, largest                               float64
}

func newLedger(n *nodeJob) *ledger {
	l := &ledger{n: n, families: make([]tally, len(n.rules)), used: n.reading.Counted, stopAt: -1, walk: 1}
	l.approach = approach{rehearsed: !n.acts(), families: make([]evidence, len(n.rules))}
	if need := n.need(); need != math.MaxInt64 {
		l.stopAt = max(n.reading.Counted-need, 0)
		if need == 0 {
			l.stopAt = math.MaxInt64
		}
	}
	l.settled = sync.NewCond(&l.mu)
	for i := range l.families {
		l.families[i].largest = n.largest[i]
	}
	return l
}

// again opens the ledger for a walk from the beginning: what has gone stays counted, and the rest will
// be met anew.
func (l *ledger) again() {
	fresh := newLedger(l.n)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.families {
		old, t := l.families[i], &fresh.families[i]
		t.gone, t.failed, t.uncertain, t.bytes = old.gone, old.failed, old.uncertain, old.bytes
	}
	l.families, l.walk, l.reason, l.err = fresh.families, 1, "", nil
	l.used, l.stopAt = fresh.used, fresh.stopAt
	l.approach.newWalk()
}

// expect has a census tell the sizes of what lies between two waterlines, which stand until the walk
// has seen some of its own.
func (l *ledger) expect(census *ttlpolicy.Census, cuts, earlier []ttlpolicy.Cut) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.families {
		e := census.Estimate(i, cuts[i])
		if earlier != nil {
			before := census.Estimate(i, earlier[i])
			e.Evict, e.EvictBytes = e.Evict-before.Evict, e.EvictBytes-before.EvictBytes
		}
		if e.Evict > 0 && e.EvictBytes > 0 {
			l.families[i].sized, l.families[i].sizes = 1, float64(e.EvictBytes)/float64(e.Evict)
		}
	}
}

// mean is what one key of a family should free.
func (t *tally) mean() float64 {
	if t.sized == 0 {
		return 0
	}
	return t.sizes / float64(t.sized)
}

// unevenFrom is the size from which on a few keys may outweigh all others of their family, so that
// each one must be measured.
const unevenFrom = 64 << 10

// uneven is whether the family has values so large that a batch must be counted by bytes.
func (t *tally) uneven() bool { return t.largest > unevenFrom }

// keep counts a key that stays, and is false in later walks: they see keys that the first one has counted.
func (l *ledger) keep(family int, reason ttlpolicy.Reason) (counted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.walk == 1 {
		l.families[family].kept.Keep(reason, 1)
	}
	return l.walk == 1
}

// missed counts a key that was gone before it could be judged, as keep does.
func (l *ledger) missed(family int) (counted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.walk == 1 {
		l.families[family].missed++
	}
	return l.walk == 1
}

// weighed tells the size of a key on its way out.
func (l *ledger) weighed(family int, bytes float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.families[family]
	t.sized++
	t.sizes += bytes
	t.largest = max(t.largest, bytes)
}

// stride is how many keys of a family stand for one that is measured.
func (l *ledger) stride(i int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.families[i].gone < wellMeasured*measureEach {
		return measureEach
	}
	return measureSome
}

func (l *ledger) family(i int) (mean float64, uneven bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.families[i].mean(), l.families[i].uneven()
}

// stop ends the run: nothing more is admitted. The first reason stands.
func (l *ledger) stop(reason Reason, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == "" {
		l.reason, l.err = reason, err
	}
	l.settled.Broadcast()
}

func (l *ledger) stopped() Reason {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// admit says how many of a family's keys, with these sizes, may be sent now. It waits for batches on
// their way where the answer hangs on them; 0 means that the run has stopped.
func (l *ledger) admit(ctx context.Context, family int, sizes []float64) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if l.reason != "" {
			return 0, l.err
		}
		allowed, probe := len(sizes), false
		ended := Reason("")
		// Held until what is admitted is entered: the limits are the run's, and nodes work at the same time.
		otherKeys, otherBytes, enter := l.n.spent.besides(l)
		if limit := l.n.req.MaxKeys; limit > 0 {
			if allowed = int(min(int64(allowed), limit-l.goneKeys-l.onWayKeys-otherKeys)); allowed <= 0 {
				ended = MaxKeys
			}
		}
		if limit := l.n.req.MaxBytes; limit > 0 && allowed > 0 {
			if allowed = fitting(sizes[:allowed], float64(limit)-l.takenBytes-l.approach.onWay()-otherBytes); allowed == 0 {
				ended = MaxBytes
			}
		}
		if l.stopAt >= 0 && allowed > 0 {
			if gap := float64(l.used - l.stopAt); gap <= 0 {
				ended = TargetReached
			} else {
				allowed = l.approach.room(gap, family, sizes[:allowed])
				probe = allowed == 0
			}
		}
		if ended == "" && !probe {
			l.onWayKeys += int64(allowed)
			l.approach.families[family].onWay += sum(sizes[:allowed])
		}
		enter()
		switch {
		case ended == "" && !probe:
			return allowed, nil
		case l.onWayKeys > 0:
			l.settled.Wait()
		case ended != "":
			l.reason = ended
			return 0, nil
		default:
			if err := l.read(ctx); err != nil && l.reason == "" { // the lock was free meanwhile
				l.reason, l.err = Internal, err
			}
		}
	}
}

func sum(sizes []float64) (total float64) {
	for _, size := range sizes {
		total += size
	}
	return total
}

// read takes a reading between two batches. The lock, which the caller holds, is free while the server is asked. In a
// dry run it is an estimate: what was in use, less what would have gone.
func (l *ledger) read(ctx context.Context) error {
	if l.approach.rehearsed {
		l.used -= int64(l.approach.rehearse())
		return nil
	}
	l.mu.Unlock()
	info, err := l.n.drained(ctx)
	l.mu.Lock()
	if err != nil {
		return err
	}
	used, ok := info.UsedMemory()
	if !ok {
		return errors.New("INFO does not tell used_memory any more")
	}
	l.approach.reading(float64(l.used - used))
	l.used = used
	return nil
}

// drainFor bounds the wait for values that are freed in the background.
const drainFor = 10 * time.Second

// drained reads INFO once what was unlinked is really freed: large values go in the background, and
// until they are gone memory says too much.
func (n *nodeJob) drained(ctx context.Context) (keyspace.Info, error) {
	deadline := time.Now().Add(drainFor)
	wait := time.Millisecond
	for {
		info, err := n.node.Info(ctx)
		if err != nil || info.PendingFrees() == 0 || time.Now().After(deadline) {
			return info, err
		}
		select {
		case <-ctx.Done():
			return info, nil
		case <-time.After(wait):
			wait = min(2*wait, 50*time.Millisecond)
		}
	}
}

// settle counts what became of a batch, and returns what of it was not tried and is still on its way.
func (l *ledger) settle(p parcel, r keyspace.Removal) (rest parcel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.families[p.family]
	rest = parcel{family: p.family, persistent: p.persistent}
	gone, perhaps := int64(0), int64(0)
	bytes, perhapsBytes := 0.0, 0.0
	for i, fate := range r.Fates {
		if fate == keyspace.Deferred {
			rest.keys, rest.sizes, rest.ttls = append(rest.keys, p.keys[i]), append(rest.sizes, p.sizes[i]), append(rest.ttls, p.ttls[i])
			continue
		}
		l.arrived(p.family, p.sizes[i:i+1])
		switch fate {
		case keyspace.Gone:
			gone++
			bytes += p.sizes[i]
		case keyspace.Refreshed:
			t.refreshed++
		case keyspace.Vanished:
			t.vanished++
		case keyspace.NotDone:
			t.failed++
		case keyspace.Uncertain:
			perhaps++
			perhapsBytes += p.sizes[i]
		case keyspace.KeptMoved:
			t.kept.Keep(ttlpolicy.ReasonMoved, 1)
		default:
			t.kept.Keep(keptReason(fate), 1)
			continue
		}
		if l.walk > 1 && t.kept.AboveWaterline > 0 {
			// The first walk counted it as kept above the waterline, which has been raised since.
			t.kept.AboveWaterline--
		}
	}
	t.gone += gone
	t.uncertain += perhaps
	if r.Unmarked != "" {
		l.unmarked = r.Unmarked
	}
	if r.Measured > 0 {
		facts := ttlpolicy.Facts{Expiry: ttlpolicy.Expiring}
		if p.persistent {
			facts.Expiry = ttlpolicy.Persistent
		}
		bytes = float64(gone) * l.n.weightOf(p.family, float64(r.Bytes)/float64(r.Measured), facts)
	}
	t.bytes += bytes
	l.goneKeys += gone + perhaps
	l.goneBytes += bytes
	l.takenBytes += bytes + perhapsBytes
	l.approach.families[p.family].since += bytes + perhapsBytes
	l.n.spent.tell(l)
	l.settled.Broadcast()
	return rest
}

// keptReason is why a key that was judged in its batch stays.
func keptReason(fate keyspace.Fate) ttlpolicy.Reason {
	switch fate {
	case keyspace.KeptNoTTL:
		return ttlpolicy.ReasonNoTTL
	case keyspace.KeptOver:
		return ttlpolicy.ReasonTTLOverLifetime
	case keyspace.KeptFresh:
		return ttlpolicy.ReasonFresh
	case keyspace.KeptNotIdle:
		return ttlpolicy.ReasonNotIdle
	case keyspace.KeptTooLarge:
		return ttlpolicy.ReasonTooLarge
	case keyspace.KeptMoved:
		return ttlpolicy.ReasonMoved
	}
	return ttlpolicy.ReasonUnknown
}

// release takes back what was admitted and not sent.
func (l *ledger) release(p parcel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrived(p.family, p.sizes)
	l.n.spent.tell(l)
	l.settled.Broadcast()
}

// arrived takes keys off the way. When none is left there are no bytes left either, whatever the
// rounding of sums says.
func (l *ledger) arrived(family int, sizes []float64) {
	l.onWayKeys -= int64(len(sizes))
	l.approach.families[family].onWay -= sum(sizes)
	if l.onWayKeys == 0 {
		for i := range l.approach.families {
			l.approach.families[i].onWay = 0
		}
	}
}

func (l *ledger) evicted() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum int64
	for i := range l.families {
		sum += l.families[i].gone
	}
	return sum
}

// unanswered is how many keys may be gone or not. The lock is held.
func (l *ledger) unanswered() (keys int64) {
	for i := range l.families {
		keys += l.families[i].uncertain
	}
	return keys
}

// touched is whether anything was deleted, or may have been.
func (l *ledger) touched() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.goneKeys > 0
}

func (l *ledger) freed() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.goneBytes)
}
