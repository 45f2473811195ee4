package janitor

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/pace"
	"redis-janitor/ttlpolicy"
)

const (
	// measureEach is how many keys of a batch stand for one that is measured: sizes are known from the
	// survey, this keeps what was freed honest. Once wellMeasured are, a few keep up with the rest.
	measureEach, measureSome = 16, 64
	wellMeasured             = 2000

	// fewKeys are too few for a batch of their own while more may follow: what a call costs by itself is what ten
	// to thirty keys cost.
	fewKeys = 120
)

// remover carries out a batch: Node.Evict under the lease, or in a dry run Node.Rehearse, which asks by the same
// conditions and deletes nothing. The two commands differ in nothing but this.
type remover func(ctx context.Context, b keyspace.Batch) (keyspace.Removal, error)

// walk goes through the keyspace once: one goroutine scans ahead, this one judges, the workers
// evict, with bounded queues between them.
func (n *nodeJob) walk(ctx context.Context, cuts, earlier []ttlpolicy.Cut) (*ttlpolicy.Census, error) {
	scanning, stopScan := context.WithCancel(ctx)
	defer stopScan()
	w := &walker{
		nodeJob: n,
		cuts:    cuts, earlier: earlier,
		census: ttlpolicy.NewCensus(n.level, n.rules),
		open:   make([]openBatch, len(n.rules)),
		queue:  make(chan parcel, n.pace.Ahead),
		remove: n.removeWhileHeld,
	}
	for range n.rules {
		w.sizers = append(w.sizers, pace.NewSizer(n.pace, min(20, n.pace.Keys), n.pace.Keys, &n.floor))
	}
	if !n.acts() {
		w.remove = n.node.Rehearse
	}
	if n.mustCount() {
		w.floors(n.census)
	}
	// Where no waterline or floor stands between a rule and its keys, the one question left is the one
	// that is asked at the deletion anyway: asking it beforehand too would double the server's work.
	// In a cluster nearly every key is a script of its own, which costs several times what reading its TTL does.
	w.direct = n.unlimited() && w.floor == nil && !n.space.Clustered()

	var workers sync.WaitGroup
	for range n.workers() {
		workers.Go(func() { w.work(ctx) })
	}
	pages := make(chan []string, n.pace.Ahead)
	scanned := make(chan error, 1)
	go func() {
		defer close(pages)
		scanned <- w.scan(scanning, pages)
	}()
	err := w.judge(ctx, pages)
	stopScan()
	for range pages { // let the scanner end
		continue
	}
	close(w.queue)
	workers.Wait()
	if scanErr := <-scanned; err == nil && ctx.Err() == nil && n.ledger.stopped() == "" {
		err = scanErr
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		n.ledger.mu.Lock()
		err = n.ledger.err
		n.ledger.mu.Unlock()
	}
	w.census.Population(0, true)
	return w.census, err
}

func (n *nodeJob) workers() int { return max(n.req.Connection.Workers, 1) }

type walker struct {
	*nodeJob
	cuts, earlier []ttlpolicy.Cut
	floor         []ttlpolicy.Cut // what keep_newest leaves; nil where no rule asks for it
	census        *ttlpolicy.Census
	open          []openBatch
	queue         chan parcel
	sizers        []*pace.Sizer // a family's each: what a key costs differs by its type and its rule
	remove        remover
	seen          int64
	direct        bool // keys are judged in the batch that evicts them
	setbacks      atomic.Int32
}

// openBatch collects one family's candidates until there are enough for a batch.
type openBatch struct {
	keys       []string
	sizes      []float64 // what each should free; below zero: not measured
	ttls       []int64   // as PTTL said them, or keyspace.Untold
	names      int       // bytes of the keys' names
	persistent int
}

// parcel is an admitted batch on its way to a worker.
type parcel struct {
	family     int
	keys       []string
	sizes      []float64 // what each should free
	ttls       []int64
	persistent bool // none of its keys had a TTL
}

// floors turns keep_newest into cuts, by a census that has counted every key.
func (w *walker) floors(census *ttlpolicy.Census) {
	w.floor = make([]ttlpolicy.Cut, len(w.rules))
	for i := range w.rules {
		w.floor[i] = floorOf(census, i)
	}
}

// floorOf is what keep_newest lets go of a family; nothing where the census has not counted every key.
func floorOf(census *ttlpolicy.Census, family int) ttlpolicy.Cut {
	maxTTL, persistent, ok := census.KeepNewestCut(family)
	if ok && persistent && maxTTL == math.MaxInt64 {
		return ttlpolicy.TakeAll()
	}
	return ttlpolicy.Cut{Persistent: ok && persistent, None: !ok || maxTTL < 0, TTL: maxTTL}
}

// match is what SCAN may leave out on the server: only what no family of this walk matches.
func (w *walker) match() string {
	if len(w.earlier) == 0 {
		return w.set.Superset()
	}
	only := -1
	for i := range w.cuts {
		if higher(w.cuts[i:i+1], w.earlier[i:i+1]) {
			if only >= 0 {
				return w.set.Superset()
			}
			only = i
		}
	}
	if only < 0 {
		return w.set.Superset()
	}
	return w.set.FamilySuperset(only)
}

func (w *walker) scan(ctx context.Context, pages chan<- []string) error {
	sizer := pace.NewSizer(w.pace, 16, w.pace.Page, &w.nodeJob.floor)
	match := w.match()
	for cursor := uint64(0); ; {
		keys, next, err := w.page(ctx, sizer, cursor, match)
		if err != nil {
			return err
		}
		select {
		case pages <- keys:
		case <-ctx.Done():
			return nil
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// judge decides on every key and sends those that are to go on their way.
func (w *walker) judge(ctx context.Context, pages <-chan []string) error {
	defer w.tell() // also of a page that it is stopped in
	for keys := range pages {
		if stopped := w.ledger.stopped(); ctx.Err() != nil || w.acts() && stopped != "" || stopped == File {
			return nil
		}
		w.seen += int64(len(keys))
		w.census.Look(len(keys))
		mine := w.sort(keys)
		if w.direct {
			for _, k := range mine {
				if err := w.pass(ctx, k); err != nil {
					return err
				}
			}
			mine = nil
		}
		for chunk := range w.chunks(mine) {
			facts, read, err := w.facts(ctx, chunk, sizeEach(int(w.seen)))
			if err != nil {
				return err
			}
			moved := false
			for i, f := range facts {
				if err := w.decide(ctx, chunk[i], f, read.to); err != nil {
					return err
				}
				moved = moved || f.Moved
			}
			if moved {
				if err := w.doubt(ctx); err != nil {
					return err
				}
			}
		}
		if w.pace.Ahead == 0 {
			if err := w.flushAll(ctx, fewKeys); err != nil {
				return err
			}
		}
		w.tell()
	}
	return w.flushAll(ctx, 1)
}

// flushAll sends what each family has collected where it is least keys or more.
func (w *walker) flushAll(ctx context.Context, least int) error {
	for family := range w.open {
		if len(w.open[family].keys) < least {
			continue
		}
		if err := w.flush(ctx, family); err != nil {
			return err
		}
	}
	return nil
}

// decide settles one key: kept with its reason, or on its way into a batch. Elapsed is the time since time zero by
// which the key was read: its TTL has run down at least to what was read.
func (w *walker) decide(ctx context.Context, k found, f keyspace.KeyFacts, elapsed time.Duration) error {
	switch {
	case f.Expiry == ttlpolicy.Missing:
		w.missed(k.key, k.family)
		return nil
	case f.Moved:
		w.keep(k.key, k.family, ttlpolicy.ReasonMoved, keyspace.Untold)
		return nil
	}
	verdict := w.census.Add(k.family, f.Facts, w.weight(k.family, f), elapsed)
	if !verdict.Eligible {
		w.keep(k.key, k.family, verdict.Reason, f.PTTL())
		return nil
	}
	// Rounded up, so that what passes here passes in the script too, where the TTL is read anew.
	at := elapsed + time.Millisecond
	switch {
	case w.floor != nil && !w.floor[k.family].Takes(f.Facts, at):
		w.keep(k.key, k.family, ttlpolicy.ReasonNewest, f.PTTL())
		return nil
	case !w.cuts[k.family].Takes(f.Facts, at) || w.ledger.stopped() != "":
		w.keep(k.key, k.family, ttlpolicy.ReasonAboveWaterline, f.PTTL())
		return nil
	case (!w.acts() || w.capsule != nil) && w.earlier != nil && w.earlier[k.family].Takes(f.Facts, at):
		// An earlier walk of this dry run has it among what would have gone; with a capsule it stayed as too
		// large, and was counted.
		return nil
	}
	if f.Bytes >= 0 {
		w.ledger.weighed(k.family, w.weight(k.family, f))
	}
	return w.collect(ctx, k, w.weight(k.family, f), f.PTTL())
}

// pass sends a key on its way unjudged: its batch judges it.
func (w *walker) pass(ctx context.Context, k found) error {
	if k.protected {
		w.keep(k.key, k.family, ttlpolicy.ReasonProtected, keyspace.Untold)
		return nil
	}
	return w.collect(ctx, k, -1, keyspace.Untold)
}

// collect puts a key into its family's open batch. The TTL is as PTTL said it, or keyspace.Untold.
func (w *walker) collect(ctx context.Context, k found, size float64, ttl int64) error {
	if !w.set.FixedPrefixHolds(k.family, k.key) {
		// The matcher and the plain comparison disagree: whatever is wrong, the key stays.
		w.keep(k.key, k.family, ttlpolicy.ReasonUnknown, ttl)
		return nil
	}
	b := &w.open[k.family]
	b.keys = append(b.keys, k.key)
	b.sizes = append(b.sizes, size)
	b.ttls = append(b.ttls, ttl)
	b.names += len(k.key)
	if ttl == -1 {
		b.persistent++
	}
	if len(b.keys) >= w.batchSize(k.family) || b.names >= maxNameBytes {
		return w.flush(ctx, k.family)
	}
	return nil
}

// batchSize is how many keys of a family make a batch: no more than the pace allows by time and by
// bytes.
func (w *walker) batchSize(family int) int {
	size := w.sizers[family].Size()
	if mean, _ := w.ledger.family(family); mean > 0 {
		size = min(size, int(float64(w.batchBytes())/mean))
	}
	return max(size, 1)
}

// flush sends what a family has collected, as far as it is admitted.
func (w *walker) flush(ctx context.Context, family int) error {
	b := w.open[family]
	w.open[family] = openBatch{}
	mean, _ := w.ledger.family(family)
	for i, size := range b.sizes {
		if size < 0 {
			b.sizes[i] = max(mean, 1)
		}
	}
	persistent := b.persistent == len(b.keys)
	for len(b.keys) > 0 {
		count, err := w.ledger.admit(ctx, family, b.sizes)
		if err != nil {
			return err
		}
		if count == 0 {
			if w.ledger.stopped() == TargetReached {
				for i, key := range b.keys {
					w.keep(key, family, ttlpolicy.ReasonAboveWaterline, b.ttls[i])
				}
			}
			return nil
		}
		p := parcel{family, b.keys[:count], b.sizes[:count], b.ttls[:count], persistent}
		select {
		case w.queue <- p:
		case <-ctx.Done():
			w.ledger.release(p)
			return nil
		}
		b.keys, b.sizes, b.ttls = b.keys[count:], b.sizes[count:], b.ttls[count:]
	}
	return nil
}

// work evicts until the queue is closed. When the run has stopped, what is still queued is given
// back unsent: only the batch in hand is finished.
func (w *walker) work(ctx context.Context) {
	for p := range w.queue {
		if ctx.Err() != nil || w.ledger.stopped() != "" {
			w.ledger.release(p)
			continue
		}
		w.carryOut(ctx, p)
	}
}

func (w *walker) carryOut(ctx context.Context, p parcel) {
	// A batch that ends early by its bytes leaves the rest for the next call.
	for len(p.keys) > 0 {
		if err := w.mayDelete(ctx, len(p.keys)); err != nil {
			w.ledger.release(p)
			w.ledger.stop(reasonOf(err), err)
			return
		}
		removal, took, err := w.send(ctx, p)
		if took == 0 { // stopped while it waited for its turn
			w.ledger.release(p)
			return
		}
		rest := w.ledger.settle(p, removal)
		if err == nil {
			err = removal.Refusal
		}
		if unnoted := w.note(p, removal, err); unnoted != nil {
			w.ledger.release(rest)
			w.ledger.stop(File, unnoted)
			return
		}
		if err == nil && slices.Contains(removal.Fates, keyspace.KeptMoved) {
			err = w.doubt(ctx)
		}
		if err == nil {
			w.setbacks.Store(0)
			w.sizers[p.family].Took(len(p.keys)-len(rest.keys), took)
		} else if err = w.overcome(ctx, err); err != nil {
			w.ledger.release(rest)
			w.ledger.stop(reasonOf(err), err)
			return
		}
		p = rest
	}
}

func reasonOf(err error) Reason {
	var signal *Signal
	var end *ending
	switch {
	case errors.Is(err, keyspace.ErrFenced):
		return LeaseLost
	case errors.Is(err, errDeadline):
		return Deadline
	case isUnwritten(err):
		return File
	case errors.As(err, &end):
		return end.reason
	case errors.As(err, &signal):
		return Interrupted
	case errors.Is(err, capsule.ErrFull):
		return CapsuleFull
	}
	return Reason(keyspace.KindOf(err))
}

// mayDelete holds back a janitor that is too fast or cannot record what it does.
func (w *walker) mayDelete(ctx context.Context, keys int) error {
	if !w.acts() {
		return nil
	}
	for w.limit != nil && keys > 0 {
		step := min(keys, w.limit.Burst())
		if err := w.limit.WaitN(ctx, step); err != nil {
			return context.Cause(ctx)
		}
		keys -= step
	}
	if w.receipt != nil && w.receipt.Err() != nil {
		return unwritten{w.receipt.Err()} // another worker's, or another server's
	}
	return w.claimPlan(ctx)
}

// removeWhileHeld looks at the lease by the clock in the last moment before a batch is sent: it may have waited for its
// turn. Without the lease it is what the script's own look would make of it.
func (n *nodeJob) removeWhileHeld(ctx context.Context, b keyspace.Batch) (keyspace.Removal, error) {
	if err := n.lease.Held(); err != nil {
		return keyspace.Removal{Fates: slices.Repeat([]keyspace.Fate{keyspace.Deferred}, len(b.Keys))}, err
	}
	return n.node.Evict(ctx, b)
}

// batch is what the server is asked to do, with the conditions as they are at this moment.
func (w *walker) batch(p parcel) keyspace.Batch {
	b := keyspace.Batch{
		Keys:        p.keys,
		MinIdle:     w.rules[p.family].MinIdle,
		MaxBytes:    w.batchBytes(),
		AssumeBytes: int64(sum(p.sizes) / float64(len(p.sizes))),
		Cooldown:    w.cooldownMark(),
		Mark:        keyspace.MarkFormat(w.env.Now(), w.env.Name),
	}
	if w.lease != nil {
		b.LeaseToken = w.lease.Token()
	}
	_, b.Uneven = w.ledger.family(p.family)
	switch {
	case b.Uneven:
		b.MeasureEach = 1
	case w.direct:
		b.MeasureEach = w.ledger.stride(p.family)
	}
	if w.receipt != nil {
		b.Tell, b.MeasureEach = true, 1
	}
	if w.direct {
		b.Lifetime = w.rules[p.family].Lifetime
	}
	limits := []ttlpolicy.Cut{w.cuts[p.family]}
	if w.floor != nil {
		limits = append(limits, w.floor[p.family])
	}
	b.Persistent, b.MaxTTL = conditions(w.rules[p.family], w.level, w.elapsed(), limits...)
	return b
}

// conditions are on what TTL the server lets a family's keys go, in a batch's terms: those of the rule at
// a level, and of waterlines and floors as they stand so long after time zero.
func conditions(rule ttlpolicy.Rule, level ttlpolicy.Level, elapsed time.Duration, limits ...ttlpolicy.Cut) (persistent bool, maxTTL time.Duration) {
	maxTTL, acts := rule.MaxTTL(level)
	if !acts {
		maxTTL = -1
	}
	persistent = acts && rule.EvictNoTTL
	for _, cut := range limits {
		persistent = persistent && cut.Persistent
		switch {
		case cut.None:
			maxTTL = -1
		case !cut.All:
			maxTTL = min(maxTTL, cut.TTL-elapsed)
		}
	}
	return persistent, max(maxTTL, -1)
}

func (w *walker) tell() {
	w.report.Scanned = max(w.report.Scanned, w.seen)
	need := int64(0)
	if n := w.need(); n != math.MaxInt64 {
		need = n
	}
	w.progress(Progress{Phase: "walk", Walk: w.report.Walks, Keys: w.report.Keys, Scanned: w.seen,
		Evicted: w.ledger.evicted(), FreedBytes: w.ledger.freed(), NeedBytes: need})
}
