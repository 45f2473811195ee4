package janitor

import (
	"context"
	"math"
	"slices"
	"time"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/pace"
	"redis-janitor/ttlpolicy"
)

const (
	// fullSample tells each family's share within 1 % (tried: 20,000 draws on a million keys), and
	// its cost does not grow with the keyspace.
	fullSample = 20_000
	// smallSample is enough to tell the size of a family's values and whether its rule is vacuous.
	smallSample = 2_000
	// drawsAtOnce bounds the pipelines of a sample: one takes about half a millisecond of the server.
	drawsAtOnce = 100
	// freshFor is how long a survey may be used for another question of the same run.
	freshFor = 10 * time.Second
	// histogramBins is how many bars an age histogram has.
	histogramBins = 12
)

// survey learns what a node's keyspace holds: by looking at every key where there are no more than
// a sample would draw, or where a rule needs the exact count, and by a fair sample elsewhere.
func (n *nodeJob) survey(ctx context.Context, draws int) error {
	if n.census != nil && draws <= n.surveyedDraws && n.surveyedLevel == n.level && n.env.Now().Sub(n.zero) < freshFor && (!n.sampled || n.req.Command == Plan || !n.mustCount()) {
		return nil
	}
	size, err := n.node.Size(ctx)
	if err != nil {
		return err
	}
	n.report.Keys = size
	if n.lease != nil && n.lease.Unwritten == nil && n.node.DB() == 0 && n.space.Owner(keyspace.LeaseKey) == n.node {
		n.report.Keys-- // the lease, which comes and goes with this run
	}
	if err := n.measureFloor(ctx); err != nil {
		return err
	}
	n.zero, n.surveyedLevel, n.surveyedDraws = n.env.Now(), n.level, draws
	if size <= int64(draws) || n.req.Command != Plan && n.mustCount() {
		n.sampled = false
		n.census, err = n.count(ctx, n.set.Superset())
		return err
	}
	n.sampled = true
	n.sample(size)
	err = n.draw(ctx, n.census, draws)
	if kind := keyspace.KindOf(err); kind == keyspace.NoPerm || kind == keyspace.NoCommand {
		n.warn(n, "", "sample_not_random", "random keys cannot be drawn on %s (%v): the estimate is from the first %d keys of a SCAN, which need not be typical", n.node.Addr(), err, draws)
		n.sample(size)
		err = n.scan(ctx, n.census, "*", draws)
	}
	return err
}

// sample begins a census of some of so many keys.
func (n *nodeJob) sample(size int64) {
	n.census = ttlpolicy.NewCensus(n.level, n.rules)
	n.census.Population(size, false)
	n.census.Stale(n.info.StaleShare(n.node.DB()))
}

// measureFloor finds what a round trip costs before the server does any work. A server that is far away is asked less.
func (n *nodeJob) measureFloor(ctx context.Context) error {
	var trips []time.Duration
	for begun := time.Now(); len(trips) < 3 || len(trips) < 9 && time.Since(begun) < 50*time.Millisecond; {
		trip, err := n.node.Ping(ctx)
		if err != nil {
			return err
		}
		trips = append(trips, trip)
	}
	n.floor.Began(trips)
	return nil
}

// mustCount is whether a rule of this level can only be kept by counting: keep_newest.
func (n *nodeJob) mustCount() bool {
	for _, r := range n.rules {
		if _, acts := r.MaxTTL(n.level); acts && r.KeepNewest > 0 {
			return true
		}
	}
	return false
}

// draw takes a fair sample with replacement.
func (n *nodeJob) draw(ctx context.Context, census *ttlpolicy.Census, draws int) error {
	for drawn := 0; drawn < draws; drawn += drawsAtOnce {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		keys, err := n.node.RandomKeys(ctx, drawsAtOnce)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			return nil
		}
		if err := n.look(ctx, census, keys, 1); err != nil {
			return err
		}
		n.progress(Progress{Phase: "survey", Keys: int64(draws), Scanned: int64(drawn + len(keys))})
	}
	return nil
}

// count looks at every key that a pattern matches, no faster than an eviction would.
func (n *nodeJob) count(ctx context.Context, match string) (*ttlpolicy.Census, error) {
	defer n.governed(ctx)()
	census := ttlpolicy.NewCensus(n.level, n.rules)
	if err := n.scan(ctx, census, match, math.MaxInt); err != nil {
		return nil, err
	}
	census.Population(0, true)
	return census, nil
}

// scan looks at keys in SCAN's order until it has seen limit of them, or all.
func (n *nodeJob) scan(ctx context.Context, census *ttlpolicy.Census, match string, limit int) error {
	alone := n.pace
	alone.AtOnce = 1 // whatever the walk may do later
	pages := pace.NewSizer(alone, 16, alone.Page, &n.floor)
	cursor, seen := uint64(0), 0
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		keys, next, err := n.page(ctx, pages, cursor, match)
		if err != nil {
			return err
		}
		seen += len(keys)
		if err := n.look(ctx, census, keys, sizeEach(seen)); err != nil {
			return err
		}
		n.progress(Progress{Phase: "survey", Keys: n.report.Keys, Scanned: int64(seen)})
		if cursor = next; cursor == 0 || seen >= limit {
			return nil
		}
	}
}

// sizeEach measures every key of a small keyspace, and fewer the more there are.
func sizeEach(seen int) int {
	if seen <= fullSample {
		return 1
	}
	return 8
}

// look adds keys to a census: those of no family only to the number looked at.
func (n *nodeJob) look(ctx context.Context, census *ttlpolicy.Census, keys []string, each int) error {
	census.Look(len(keys))
	for chunk := range n.chunks(n.sort(keys)) {
		facts, read, err := n.facts(ctx, chunk, each)
		if err != nil {
			return err
		}
		for i, f := range facts {
			if f.Moved {
				continue // whoever has it now counts it
			}
			// No newer than it is at the least: a floor counts on the keys above it.
			census.Add(chunk[i].family, f.Facts, n.weight(chunk[i].family, f), read.from)
		}
	}
	return nil
}

// found is a key of one of the families.
type found struct {
	key       string
	family    int
	protected bool
}

// sort picks the keys that belong to a family.
func (n *nodeJob) sort(keys []string) []found {
	mine := make([]found, 0, len(keys))
	for _, key := range keys {
		if class := n.set.Classify(key); class.Family >= 0 {
			mine = append(mine, found{key, class.Family, class.Protected})
		}
	}
	return mine
}

// maxNameBytes bounds how many bytes of key names go into one command or pipeline.
const maxNameBytes = 256 << 10

// chunks cuts keys into pipelines that hold the server no longer than the pace allows.
func (n *nodeJob) chunks(keys []found) func(yield func([]found) bool) {
	return func(yield func([]found) bool) {
		for len(keys) > 0 {
			size, bytes := 0, 0
			for size < len(keys) && size < n.pipelines.Size() && (size == 0 || bytes+len(keys[size].key) <= maxNameBytes) {
				bytes += len(keys[size].key)
				size++
			}
			if !yield(keys[:size]) {
				return
			}
			keys = keys[size:]
		}
	}
}

// span is when something was read, counted from time zero: not before from, and not after to.
type span struct{ from, to time.Duration }

// facts reads what a chunk's keys have to be judged by.
func (n *nodeJob) facts(ctx context.Context, chunk []found, each int) ([]keyspace.KeyFacts, span, error) {
	names := make([]string, len(chunk))
	for i, f := range chunk {
		names[i] = f.key
	}
	var facts []keyspace.KeyFacts
	var read span
	err := n.governor.Run(ctx, func() (err error) {
		read.from = n.elapsed()
		start := time.Now()
		facts, err = n.node.Facts(ctx, names, keyspace.Ask{
			Idle:  func(i int) bool { return n.rules[chunk[i].family].MinIdle > 0 },
			Bytes: func(i int) bool { return (i+n.turn)%each == 0 || n.largest[chunk[i].family] > unevenFrom },
		})
		n.pipelines.Took(len(chunk), time.Since(start))
		read.to = n.elapsed()
		return err
	})
	n.turn++
	if err != nil {
		return nil, read, err
	}
	if err := n.calibrate(ctx, chunk, facts); err != nil {
		return nil, read, err
	}
	for i := range facts {
		facts[i].Protected = chunk[i].protected
		n.largest[chunk[i].family] = max(n.largest[chunk[i].family], facts[i].Bytes)
	}
	return facts, read, nil
}

func (n *nodeJob) elapsed() time.Duration { return n.env.Now().Sub(n.zero) }

// page reads one page of SCAN and fits the size of the next one to it: pages shrink where they take
// the server long, and where key names are huge.
func (n *nodeJob) page(ctx context.Context, pages *pace.Sizer, cursor uint64, match string) ([]string, uint64, error) {
	var keys []string
	var next uint64
	err := n.governor.Run(ctx, func() (err error) {
		size := pages.Size()
		start := time.Now()
		keys, next, err = n.node.Page(ctx, cursor, match, int64(size))
		pages.Took(size, time.Since(start))
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	// The lease and the cooldown come and go with execute alone: counted, they would make it differ from
	// its dry run, and look like keys that came twice. The pause comes and goes at any time.
	keys = slices.DeleteFunc(keys, keyspace.Own)
	bytes := 0
	for _, key := range keys {
		bytes += len(key)
	}
	if bytes > 4*maxNameBytes {
		pages.Shrink()
	}
	return keys, next, nil
}

func (n *nodeJob) progress(p Progress) {
	if n.env.Progress == nil {
		return
	}
	p.Node = n.node.Addr()
	n.env.Progress(p)
}

// unlimited is whether everything eligible is to go.
func (n *nodeJob) unlimited() bool {
	return n.plan == nil && n.target() < 0 && n.req.MaxKeys == 0 && n.req.MaxBytes == 0
}

// need is how many bytes must go; math.MaxInt64 where all that is eligible is to. What is free already but for the
// allocator, which keeps it, need not go once more: a run that waited for RSS to fall would take all there is, tick by tick.
func (n *nodeJob) need() int64 {
	if n.target() < 0 {
		return math.MaxInt64
	}
	return max(n.reading.Used-n.target()-n.reading.Idle(), 0)
}

// keptByAllocator is whether memory is above the target by what the allocator keeps, and by nothing else.
func (n *nodeJob) keptByAllocator() bool {
	return n.target() >= 0 && n.reading.Used > n.target() && n.need() == 0
}

// aim finds how far down each family is to go.
func (n *nodeJob) aim() {
	if n.unlimited() {
		n.cuts = n.takeAll()
		return
	}
	cuts, missing := n.census.Solve(n.aimBytes())
	n.cuts = n.below(cuts)
	if n.req.MaxKeys > 0 || n.req.MaxBytes > 0 {
		_, missing = n.census.Solve(n.need()) // whatever this run may take of it
	}
	if n.need() != math.MaxInt64 && missing > 0 {
		n.report.Memory.MissingBytes = missing
		n.warn(n, "", "target_unreachable", "evicting all that is eligible on %s leaves memory about %s above the target of %s (estimate): lower older_than, add families, or raise the memory",
			n.node.Addr(), ttlpolicy.FormatSize(missing), ttlpolicy.FormatSize(n.target()))
	}
}

func (n *nodeJob) takeAll() []ttlpolicy.Cut {
	cuts := make([]ttlpolicy.Cut, len(n.rules))
	for i := range cuts {
		cuts[i] = ttlpolicy.TakeAll()
	}
	return cuts
}
