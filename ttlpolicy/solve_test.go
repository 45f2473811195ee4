package ttlpolicy

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// node is a simulated keyspace, every key with its family.
type node struct {
	rules []Rule
	keys  []nodeKey
}

type nodeKey struct {
	family  int
	facts   Facts // at time zero
	bytes   float64
	elapsed time.Duration // when the walk met it
}

func (k nodeKey) met() Facts {
	f := k.facts
	if f.Expiry == Expiring {
		f.TTL -= k.elapsed
	}
	return f
}

// randomNode makes up one to four families, some of whose keys may go.
func randomNode(r *rand.Rand, exactlyKept bool) node {
	var n node
	for range 1 + r.IntN(4) {
		rule := Rule{Lifetime: time.Duration(1+r.IntN(120)) * time.Minute, EvictNoTTL: r.IntN(2) == 0}
		if r.IntN(5) > 0 {
			rule.OlderThan = map[Level]time.Duration{Force: portion(rule.Lifetime, r.IntN(3), 3)}
		}
		if r.IntN(4) == 0 {
			rule.MinIdle = time.Minute
		}
		if exactlyKept && r.IntN(3) == 0 {
			rule.KeepNewest = r.IntN(40)
		}
		n.rules = append(n.rules, rule)
	}
	for range r.IntN(400) {
		k := nodeKey{family: r.IntN(len(n.rules)), bytes: float64(1 + r.IntN(5000)), elapsed: time.Duration(r.IntN(30)) * time.Second}
		lifetime := n.rules[k.family].Lifetime
		k.facts = Facts{
			Expiry: Expiring, TTL: k.elapsed + time.Duration(r.Int64N(int64(lifetime-k.elapsed)+1)),
			Protected: r.IntN(20) == 0, IdleKnown: r.IntN(10) > 0, Idle: time.Duration(r.IntN(120)) * time.Second,
		}
		switch r.IntN(12) {
		case 0:
			k.facts.Expiry = Persistent
		case 1:
			k.facts.Expiry = UnknownExpiry
		case 2:
			k.facts.TTL += 2 * lifetime
		}
		n.keys = append(n.keys, k)
	}
	return n
}

func (n node) walk() *Census {
	c := exactCensus(n.rules...)
	for _, k := range n.keys {
		c.look(k.family, k.met(), k.bytes, k.elapsed)
	}
	return c
}

// evict is what a walk with the cuts takes: the oracle, key by key.
func (n node) evict(c *Census, cuts []Cut) (gone []bool, freed float64) {
	gone = make([]bool, len(n.keys))
	floors := make([]Cut, len(n.rules))
	for i := range floors {
		floors[i].TTL, floors[i].Persistent, _ = c.KeepNewestCut(i)
	}
	for i, k := range n.keys {
		if n.rules[k.family].Judge(Force, k.met()).Eligible && cuts[k.family].Takes(k.met(), k.elapsed) && floors[k.family].Takes(k.met(), k.elapsed) {
			gone[i] = true
			freed += k.bytes
		}
	}
	return gone, freed
}

func all(n int) []Cut {
	cuts := make([]Cut, n)
	for i := range cuts {
		cuts[i] = TakeAll()
	}
	return cuts
}

func TestCutsFreeTheNeedAndAtMostABandMore(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		n := randomNode(r, true)
		c := n.walk()
		_, stock := n.evict(c, all(len(n.rules)))
		need := r.Int64N(int64(stock)*5/4 + 2)
		cuts, missing := c.Solve(need)
		gone, freed := n.evict(c, cuts)
		if missing != max(0, need-int64(stock)) {
			t.Fatalf("of %v bytes for a need of %d, %d are missing", stock, need, missing)
		}
		if freed+float64(missing) < float64(need) {
			t.Fatalf("a need of %d with %d missing frees %v", need, missing, freed)
		}
		// The marginal step: what is lost by lowering the last waterline by a band.
		last := lastThatTakes(cuts)
		if missing > 0 || last < 0 {
			continue
		}
		marginal := 0.0
		for i, k := range n.keys {
			if !gone[i] || k.family != last {
				continue
			}
			ttl, lifetime := k.facts.TTL, n.rules[last].Lifetime
			switch cut := cuts[last]; {
			case cut.None, k.facts.Expiry == Expiring && ttl > edge(bandOf(cut.TTL, lifetime), lifetime):
				marginal += k.bytes
			}
		}
		if freed-marginal >= float64(need) && need > 0 {
			t.Fatalf("a need of %d frees %v, %v of it in the last step", need, freed, marginal)
		}
	}
}

func lastThatTakes(cuts []Cut) int {
	for i := len(cuts) - 1; i >= 0; i-- {
		if cuts[i] != TakeNone() {
			return i
		}
	}
	return -1
}

func TestTheEstimateOfACutIsWhatItTakes(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 500 {
		n := randomNode(r, true)
		c := n.walk()
		_, stock := n.evict(c, all(len(n.rules)))
		cuts, _ := c.Solve(r.Int64N(int64(stock) + 1))
		gone, freed := n.evict(c, cuts)
		var keys, bytes, total int64
		for i, cut := range cuts {
			e := c.Estimate(i, cut)
			keys += e.Evict
			bytes += e.EvictBytes
			total += e.Bytes
			if e.Evict > e.Eligible || e.Eligible > e.Matched || e.EligibleLow != e.Eligible || e.EligibleHigh != e.Eligible {
				t.Fatalf("%+v", e)
			}
		}
		count := int64(0)
		for _, g := range gone {
			if g {
				count++
			}
		}
		if keys != count || bytes != int64(freed) || total != int64(stock) {
			t.Fatalf("estimated %d keys, %d of %d bytes; taken %d, %v of %v", keys, bytes, total, count, freed, stock)
		}
	}
}

func TestNothingAboveAWaterlineIsChosenWhileSomethingBelowStays(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 1000 {
		n := randomNode(r, true)
		c := n.walk()
		may, stock := n.evict(c, all(len(n.rules)))
		need := r.Int64N(int64(stock) + 1)
		solved, _ := c.Solve(need)
		for _, cuts := range [][]Cut{solved, c.SolveLow(need, 0.02)} {
			gone, _ := n.evict(c, cuts)
			for i, a := range n.keys {
				if !gone[i] {
					continue
				}
				for j, b := range n.keys {
					if !may[j] || gone[j] {
						continue
					}
					if b.family < a.family {
						t.Fatalf("family %d gives while family %d has eligible keys left: %+v", a.family, b.family, cuts)
					}
					if b.family > a.family || a.facts.Expiry == Persistent {
						continue
					}
					if b.facts.Expiry == Persistent || b.facts.TTL <= a.facts.TTL {
						t.Fatalf("%+v goes and %+v stays: %+v", a.facts, b.facts, cuts)
					}
				}
			}
		}
	}
}

// depth orders the cuts of a family by how far down they go.
func depth(c Cut) time.Duration {
	switch {
	case c.All:
		return 1 << 62
	case !c.None:
		return c.TTL
	case c.Persistent:
		return -1
	}
	return -2
}

func notDeeper(t *testing.T, why string, cuts, than []Cut) {
	t.Helper()
	for i := range cuts {
		if depth(cuts[i]) > depth(than[i]) || cuts[i].Persistent && !than[i].Persistent {
			t.Fatalf("%s: %+v goes further than %+v", why, cuts, than)
		}
	}
}

func TestMoreNeedNeverLowersAWaterline(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for trial := range 600 {
		n := randomNode(r, true)
		c := n.walk()
		if trial%2 == 0 {
			c.Population(int64(100*len(n.keys)), false)
		}
		stock, _, _ := c.EligibleBytes()
		less, _ := c.Solve(0)
		lessLow := c.SolveLow(0, 0.02)
		for need := int64(0); need <= stock*3/2; need += 1 + r.Int64N(stock/8+1) {
			more, _ := c.Solve(need)
			moreLow := c.SolveLow(need, 0.02)
			notDeeper(t, "less need", less, more)
			notDeeper(t, "less need, cautiously", lessLow, moreLow)
			notDeeper(t, "cautiously", moreLow, more)
			less, lessLow = more, moreLow
		}
	}
}

func TestCautiousCutsOfAnExactCensusFreeNoMoreThanTheNeed(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 1000 {
		n := randomNode(r, true)
		c := n.walk()
		_, stock := n.evict(c, all(len(n.rules)))
		need := r.Int64N(int64(stock)*5/4 + 2)
		for _, slack := range []float64{0, 0.02, 0.5} {
			if _, freed := n.evict(c, c.SolveLow(need, slack)); freed*(1+slack) > float64(need)+1e-6 {
				t.Fatalf("a need of %d with slack %g frees %v", need, slack, freed)
			}
		}
	}
}

func TestCautiousCutsComeCloseWhereTheyCan(t *testing.T) {
	c := exactCensus(evictAny("ml", hour))
	for i := range 1000 {
		c.look(0, expiring(hour*time.Duration(i)/1000), 100, 0)
	}
	cut := c.SolveLow(50_000, 0.02)[0]
	if got := c.Estimate(0, cut).EvictBytes; got < 48_000 || got > 49_020 {
		t.Errorf("%+v frees %d of 50,000", cut, got)
	}
}

func TestAnEqualAgeIsTakenWholeOrLeftWhole(t *testing.T) {
	c := exactCensus(evictAny("first", hour), evictAny("second", hour))
	for range 100 {
		c.look(0, expiring(20*time.Minute), 10, 0)
		c.look(1, expiring(20*time.Minute), 10, 0)
	}
	line := Cut{Persistent: true, TTL: 20 * time.Minute}
	for _, tt := range []struct {
		need    int64
		want    []Cut
		wantLow []Cut
		missing int64
	}{
		{-5, []Cut{TakeNone(), TakeNone()}, []Cut{TakeNone(), TakeNone()}, 0},
		{0, []Cut{TakeNone(), TakeNone()}, []Cut{TakeNone(), TakeNone()}, 0},
		{1, []Cut{line, TakeNone()}, []Cut{TakeNone(), TakeNone()}, 0},
		{1000, []Cut{line, TakeNone()}, []Cut{line, TakeNone()}, 0},
		{1001, []Cut{TakeAll(), line}, []Cut{TakeAll(), TakeNone()}, 0},
		{2000, []Cut{TakeAll(), line}, []Cut{TakeAll(), line}, 0},
		{2300, []Cut{TakeAll(), TakeAll()}, []Cut{TakeAll(), TakeAll()}, 300},
	} {
		cuts, missing := c.Solve(tt.need)
		if !reflect.DeepEqual(cuts, tt.want) || missing != tt.missing {
			t.Errorf("Solve(%d) = %+v, %d, want %+v, %d", tt.need, cuts, missing, tt.want, tt.missing)
		}
		if cuts := c.SolveLow(tt.need, 0); !reflect.DeepEqual(cuts, tt.wantLow) {
			t.Errorf("SolveLow(%d) = %+v, want %+v", tt.need, cuts, tt.wantLow)
		}
	}
}

func TestAStepBackIsTheCutOfTheNextSmallerNeed(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 10))
	for range 300 {
		n := randomNode(r, true)
		c := n.walk()
		stock, _, _ := c.EligibleBytes()
		for range 5 {
			cuts, missing := c.Solve(r.Int64N(stock + 1))
			if missing > 0 {
				continue // by the rounding of the stock
			}
			_, with := n.evict(c, cuts)
			before := c.StepBack(cuts)
			notDeeper(t, "a step back", before, cuts)
			if _, without := n.evict(c, before); without > 0 {
				// Nothing lies between the two.
				if between, _ := c.Solve(int64(without) + 1); with > without && !reflect.DeepEqual(between, cuts) {
					t.Fatalf("%+v, a step back %+v, and between them %+v", cuts, before, between)
				}
			}
			if again := c.StepBack(before); with > 0 && reflect.DeepEqual(again, cuts) {
				t.Fatalf("%+v does not get shorter", cuts)
			}
		}
	}
}

func TestAOneKeyKeyspaceIsTakenOrLeft(t *testing.T) {
	for name, facts := range map[string]Facts{"with TTL": expiring(hour / 2), "without": {Expiry: Persistent}} {
		c := exactCensus(evictAny("ml", hour))
		c.look(0, facts, 100, 0)
		for need, want := range map[int64]int64{0: 0, 1: 1, 100: 1, 101: 1} {
			cuts, missing := c.Solve(need)
			if got := c.Estimate(0, cuts[0]); got.Evict != want || missing != max(0, need-100) {
				t.Errorf("%s, need %d: %+v with %d missing", name, need, got, missing)
			}
		}
		if got := c.Estimate(0, c.SolveLow(99, 0)[0]); got.Evict != 0 {
			t.Errorf("%s: cautiously %+v", name, got)
		}
	}
}

func TestWithoutNeedNotEvenWhatFreesNothingGoes(t *testing.T) {
	c := exactCensus(evictAny("ml", hour))
	c.look(0, expiring(hour/2), 0, 0)
	cuts, _ := c.Solve(0)
	if low := c.SolveLow(0, 0); low[0] != TakeNone() || cuts[0] != TakeNone() {
		t.Errorf("%+v, cautiously %+v", cuts, low)
	}
}

func TestKeysWithoutTTLGoFirst(t *testing.T) {
	c := exactCensus(evictAny("ml", hour))
	c.look(0, expiring(0), 100, 0)
	c.look(0, Facts{Expiry: Persistent}, 100, 0)
	if cuts, _ := c.Solve(100); cuts[0] != (Cut{Persistent: true, None: true}) {
		t.Errorf("%+v", cuts)
	}
	if cuts, _ := c.Solve(101); cuts[0].None || cuts[0].All || !cuts[0].Persistent {
		t.Errorf("%+v", cuts)
	}
}

func TestASurveyOfACleanLevelTakesNothing(t *testing.T) {
	c := NewCensus(OK, []Rule{evictAny("ml", hour)})
	c.look(0, expiring(0), 100, 0)
	c.Population(1, true)
	if cuts, missing := c.Solve(100); missing != 100 || c.Estimate(0, cuts[0]).Evict != 0 {
		t.Errorf("%+v, %d missing", cuts, missing)
	}
}

func TestNeededIsWhatTheCutsTakeUntilItIsEnough(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		n := randomNode(r, true)
		c := n.walk()
		eligible, _, _ := c.EligibleBytes()
		need, most := r.Int64N(eligible+2), int64(math.MaxInt64)
		if r.IntN(2) == 0 {
			most = 1 + r.Int64N(200)
		}
		cuts, _ := c.Solve(need)
		var keys, bytes int64
		reached := false
		for i, goes := range c.Needed(cuts, need, most) {
			if whole := c.Estimate(i, cuts[i]); goes.Keys > whole.Evict || goes.Bytes > whole.EvictBytes+1 {
				t.Fatalf("seed %d: of family %d goes %+v, more than the cut takes: %+v", seed, i, goes, whole)
			}
			if reached && goes != (Needed{}) {
				t.Fatalf("seed %d: family %d gives %+v though the earlier ones had been enough", seed, i, goes)
			}
			keys, bytes = keys+goes.Keys, bytes+goes.Bytes
			reached = bytes >= need || keys >= most
		}
		if keys > most || bytes > need+int64(len(n.rules)) {
			t.Fatalf("seed %d: %d keys and %d bytes go, want at most %d keys and %d bytes", seed, keys, bytes, most, need)
		}
		if keys < most && bytes < need-int64(len(n.rules)) {
			t.Fatalf("seed %d: %d keys and %d bytes go, and %d keys and %d bytes should", seed, keys, bytes, most, need)
		}
	}
}

func TestOfKeysOfOneAgeNoMoreAreNeededThanTheNeed(t *testing.T) {
	c := exactCensus(Rule{Lifetime: time.Hour, EvictNoTTL: true, OlderThan: map[Level]time.Duration{Force: 0}})
	for range 1000 {
		c.look(0, Facts{Expiry: Persistent}, 100, 0)
	}
	cuts, _ := c.Solve(25_000)
	if got := c.Needed(cuts, 25_000, math.MaxInt64)[0]; got != (Needed{250, 25_000}) {
		t.Errorf("%+v", got)
	}
	if got := c.Needed(cuts, 25_000, 10)[0]; got != (Needed{10, 1_000}) {
		t.Errorf("%+v", got)
	}
}
