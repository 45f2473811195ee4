package ttlpolicy

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// evictAny lets any age go at force, keys without TTL too.
func evictAny(family string, lifetime time.Duration) Rule {
	return Rule{Family: family, Lifetime: lifetime, EvictNoTTL: true, OlderThan: map[Level]time.Duration{Force: 0}}
}

func exactCensus(rules ...Rule) *Census {
	c := NewCensus(Force, rules)
	c.Population(0, true)
	return c
}

// look draws or scans one key of a family.
func (c *Census) look(family int, f Facts, bytes float64, elapsed time.Duration) Verdict {
	c.Look(1)
	return c.Add(family, f, bytes, elapsed)
}

func TestAnEmptyKeyspaceHasNothingToSay(t *testing.T) {
	for _, exact := range []bool{true, false} {
		c := NewCensus(Critical, []Rule{appCache(), evictAny("ml", hour)})
		c.Population(0, exact)
		if got := c.Estimate(0, TakeAll()); got != (Estimate{}) {
			t.Errorf("exact %v: %+v", exact, got)
		}
		if cuts, missing := c.Solve(100); missing != 100 || len(cuts) != 2 {
			t.Errorf("exact %v: cuts %v, missing %d", exact, cuts, missing)
		}
		if cuts, missing := c.Solve(0); missing != 0 || cuts[0] != TakeNone() || cuts[1] != TakeNone() {
			t.Errorf("exact %v: without need cuts %v, missing %d", exact, cuts, missing)
		}
		if n, low, high := c.ActiveWithin(0, hour); n != 0 || low != 0 || high != 0 {
			t.Errorf("exact %v: %v active in [%v, %v]", exact, n, low, high)
		}
		if lints := c.Lints(); len(lints) != 0 {
			t.Errorf("exact %v: lints %v", exact, lints)
		}
		for _, b := range c.Bins(0, 6) {
			if b.Keys != 0 || b.Bytes != 0 {
				t.Errorf("exact %v: bin %+v", exact, b)
			}
		}
	}
}

func TestAKeyspaceNotLookedAtMayHoldAnything(t *testing.T) {
	c := NewCensus(Force, []Rule{evictAny("ml", hour)})
	c.Population(500, false)
	if got := c.Estimate(0, TakeAll()); got.Eligible != 0 || got.EligibleLow != 0 || got.EligibleHigh != 500 {
		t.Errorf("%+v", got)
	}
}

func TestWithoutAPopulationWhatWasSeenStandsForItself(t *testing.T) {
	c := NewCensus(Force, []Rule{evictAny("ml", hour)})
	for range 8 {
		c.look(0, expiring(hour/2), 100, 0)
	}
	if got := c.Estimate(0, TakeAll()); got.Matched != 8 || got.Eligible != 8 || got.Bytes != 800 {
		t.Errorf("%+v", got)
	}
}

func TestAnExactCensusCountsWhatIsThere(t *testing.T) {
	protected := expiring(hour / 2)
	protected.Protected = true
	c := exactCensus(appCache())
	for _, tt := range []struct {
		facts Facts
		want  Reason
	}{
		{expiring(30 * time.Minute), ReasonNone}, {expiring(0), ReasonNone}, {expiring(31 * time.Minute), ReasonFresh},
		{protected, ReasonProtected}, {expiring(2 * hour), ReasonTTLOverLifetime}, {Facts{Expiry: Persistent}, ReasonNoTTL},
		{Facts{}, ReasonUnknown}, {Facts{Expiry: Missing}, ReasonUnknown},
	} {
		if v := c.look(0, tt.facts, 1000, 0); v.Reason != tt.want {
			t.Errorf("%+v: %+v", tt.facts, v)
		}
	}
	got := c.Estimate(0, Cut{TTL: 10 * time.Minute})
	want := Estimate{
		Matched: 7, Eligible: 2, EligibleLow: 2, EligibleHigh: 2, Evict: 1, EvictBytes: 1000,
		Bytes: 2000, BytesLow: 1960, BytesHigh: 2040,
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	// Missing is not there any more; unknown, over the lifetime and without TTL have no age.
	if n := c.UnknownAge(0); n != 3 {
		t.Errorf("%v of unknown age, want 3", n)
	}
	if est, low, high := c.EligibleBytes(); est != 2000 || low != 1960 || high != 2040 {
		t.Errorf("%d eligible bytes in [%d, %d]", est, low, high)
	}
}

func TestASampleIsScaledToThePopulation(t *testing.T) {
	c := NewCensus(Force, []Rule{evictAny("ml", hour), evictAny("none", hour)})
	for range 250 {
		c.look(0, expiring(hour/4), 100, 0)
		c.look(0, Facts{}, 100, 0)
	}
	c.Look(500)
	c.Population(1_000_000, false)
	got := c.Estimate(0, Cut{TTL: hour / 2})
	if got.Matched != 500_000 || got.Eligible != 250_000 || got.Evict != 250_000 || got.Bytes != 25_000_000 || got.EvictBytes != 25_000_000 {
		t.Errorf("%+v", got)
	}
	if got.EligibleLow < 220_000 || got.EligibleLow > 225_000 || got.EligibleHigh < 275_000 || got.EligibleHigh > 280_000 {
		t.Errorf("interval [%d, %d], want about 250,000 ± 27,000", got.EligibleLow, got.EligibleHigh)
	}
	if n := c.UnknownAge(0); n != 250_000 {
		t.Errorf("%v of unknown age", n)
	}
	if got := c.Estimate(1, TakeAll()); got.Eligible != 0 || got.EligibleHigh != 3689 || got.BytesHigh < 368_900 {
		t.Errorf("of a family that was never drawn: %+v", got)
	}
}

func TestASampleKnowsNothingOfKeysThatHaveExpiredAndAreStillCounted(t *testing.T) {
	c := NewCensus(Force, []Rule{evictAny("ml", hour)})
	for range 1000 {
		c.look(0, expiring(hour/4), 100, 0)
	}
	c.Look(1000)
	c.Population(1_000_000, false)
	c.Stale(0.1)
	got := c.Estimate(0, TakeAll())
	if got.Matched != 450_000 || got.Eligible != 450_000 || got.Bytes != 45_000_000 {
		t.Errorf("%+v", got)
	}
	// The share is an estimate, too: from twice as many to none.
	if got.EligibleLow > 390_000 || got.EligibleHigh < 500_000 || got.BytesLow > 41_000_000 || got.BytesHigh < 50_000_000 {
		t.Errorf("the intervals do not allow for it: %+v", got)
	}
	c.Population(0, true)
	if got := c.Estimate(0, TakeAll()); got.Eligible != 1000 || got.EligibleLow != 1000 || got.EligibleHigh != 1000 {
		t.Errorf("where every key was looked at: %+v", got)
	}
}

func TestBytesBeyondCountingStayAtTheHighestCount(t *testing.T) {
	c := NewCensus(Force, []Rule{evictAny("ml", hour)})
	c.look(0, expiring(0), math.MaxInt64, 0)
	c.Population(math.MaxInt64, false)
	if got := c.Estimate(0, TakeAll()); got.Eligible != math.MaxInt64 || got.Bytes != math.MaxInt64 || got.BytesHigh != math.MaxInt64 || got.BytesLow < 0 {
		t.Errorf("%+v", got)
	}
}

func TestKeysWithoutASizeTakeTheirFamilysMean(t *testing.T) {
	c := exactCensus(evictAny("ml", hour), evictAny("never measured", hour))
	c.look(0, expiring(hour/4), 300, 0)
	c.look(0, expiring(hour/4), 500, 0)
	for _, bytes := range []float64{-1, math.NaN(), math.Inf(1)} {
		c.look(0, expiring(hour/2), bytes, 0)
		c.look(1, expiring(hour/2), bytes, 0)
	}
	for i, want := range []int64{2000, 1200} {
		got := c.Estimate(i, TakeAll())
		if got.Bytes != want {
			t.Errorf("family %d: %d bytes, want %d", i, got.Bytes, want)
		}
		if got.BytesHigh-got.Bytes < 100 || got.Bytes-got.BytesLow < 100 {
			t.Errorf("family %d: interval [%d, %d] as if all had been measured", i, got.BytesLow, got.BytesHigh)
		}
	}
}

func TestTTLsArePutBackToTimeZero(t *testing.T) {
	c := exactCensus(evictAny("ml", hour))
	c.look(0, expiring(10*time.Minute), 1, 0)
	c.look(0, expiring(10*time.Minute), 1, 5*time.Minute)
	c.look(0, expiring(hour), 1, 5*time.Minute) // written since
	c.look(0, expiring(hour), 1, math.MaxInt64)
	for ttl, want := range map[time.Duration]int64{9 * time.Minute: 0, 10 * time.Minute: 1, 14 * time.Minute: 1, 15 * time.Minute: 2, 59 * time.Minute: 2, hour: 4} {
		if got := c.Estimate(0, Cut{TTL: ttl}).Evict; got != want {
			t.Errorf("up to %v: %d keys, want %d", ttl, got, want)
		}
	}
}

func TestBinsAddUpToTheFamily(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	c := NewCensus(Force, []Rule{appCache()})
	for range 1000 {
		c.look(0, expiring(time.Duration(r.Int64N(int64(hour)+1))), 7, 0)
	}
	c.Population(123_457, false)
	for _, n := range []int{1, 6, 7, 12, 60, 4320, 9000} {
		var keys, bytes int64
		end := time.Duration(0)
		bins := c.Bins(0, n)
		for _, b := range bins {
			if b.From != end || b.To <= b.From || b.Keys < 0 || b.Bytes < 0 {
				t.Fatalf("%d bins: %+v after %v", n, b, end)
			}
			end = b.To
			keys += b.Keys
			bytes += b.Bytes
		}
		if len(bins) != n || end != hour || keys != 123_457 || bytes != 7*123_457 {
			t.Errorf("%d bins up to %v with %d keys, %d bytes", len(bins), end, keys, bytes)
		}
	}
	if c.Bins(0, 0) != nil {
		t.Error("bins without bins")
	}
}

func TestABinHoldsTheAgesItSays(t *testing.T) {
	c := exactCensus(appCache())
	for _, age := range []time.Duration{0, 9 * time.Minute, 10*time.Minute + 1, 59 * time.Minute, hour} {
		c.look(0, expiring(hour-age), 10, 0)
	}
	want := []int64{2, 1, 0, 0, 0, 2}
	for i, b := range c.Bins(0, 6) {
		if b.Keys != want[i] || b.Bytes != 10*want[i] {
			t.Errorf("%v to %v: %d keys, %d bytes, want %d keys", b.From, b.To, b.Keys, b.Bytes, want[i])
		}
	}
}

func TestActiveUsersAreTheKeysOfAnAgeUpToTheLimit(t *testing.T) {
	sessions := Rule{Family: "sessions", Lifetime: 30 * time.Minute, OlderThan: map[Level]time.Duration{Force: 25 * time.Minute}}
	c := exactCensus(sessions)
	for _, age := range []time.Duration{0, 4 * time.Minute, 5 * time.Minute, 5*time.Minute + time.Second, 29 * time.Minute} {
		c.look(0, expiring(sessions.Lifetime-age), 1, 0)
	}
	c.look(0, expiring(hour), 1, 0)
	for d, want := range map[time.Duration]float64{-1: 0, 0: 1, 4 * time.Minute: 2, 5 * time.Minute: 3, 6 * time.Minute: 4, hour: 5} {
		if n, low, high := c.ActiveWithin(0, d); n != want || low != want || high != want {
			t.Errorf("within %v: %v in [%v, %v], want %v", d, n, low, high, want)
		}
	}
	c.Population(600, false)
	if n, low, high := c.ActiveWithin(0, 5*time.Minute); n != 300 || low >= 200 || high <= 400 {
		t.Errorf("of a sample: %v in [%v, %v], want 300 and a wide interval", n, low, high)
	}
}

func TestTheNewestStayAndNoMoreThanABandMore(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 300 {
		rule := evictAny("ml", 2*hour)
		rule.KeepNewest = r.IntN(120)
		c := exactCensus(rule)
		n := r.IntN(150)
		var ttls []time.Duration
		for range n {
			ttls = append(ttls, time.Duration(r.Int64N(int64(2*hour)+1)))
			c.look(0, expiring(ttls[len(ttls)-1]), 10, 0)
		}
		c.look(0, Facts{Expiry: Persistent}, 10, 0)
		maxTTL, persistent, ok := c.KeepNewestCut(0)
		stay, inBand := 0, 0
		for _, ttl := range ttls {
			if ttl > maxTTL {
				stay++
				if ttl <= maxTTL+2*hour/bands+1 {
					inBand++
				}
			}
		}
		if want := min(rule.KeepNewest, n); !ok || stay < want || rule.KeepNewest <= n && stay-inBand > want {
			t.Fatalf("of %d keys %d stay (%d in the last band) of the %d to keep", n, stay, inBand, rule.KeepNewest)
		}
		if persistent != (rule.KeepNewest <= n) {
			t.Fatalf("%d keys, %d to keep: keys without TTL may go: %v", n, rule.KeepNewest, persistent)
		}
		eligible := int64(n - stay)
		if persistent {
			eligible++
		}
		if got := c.Estimate(0, TakeAll()).Eligible; got != eligible {
			t.Fatalf("%d eligible, want %d", got, eligible)
		}
	}
}

func TestProtectedKeysCountAmongTheNewest(t *testing.T) {
	rule := evictAny("ml", hour)
	rule.KeepNewest = 2
	c := exactCensus(rule)
	for range 2 {
		c.look(0, Facts{Expiry: Expiring, TTL: 50 * time.Minute, Protected: true}, 1, 0)
	}
	c.look(0, expiring(10*time.Minute), 1, 0)
	if maxTTL, persistent, ok := c.KeepNewestCut(0); maxTTL < 10*time.Minute || maxTTL >= 50*time.Minute || !persistent || !ok {
		t.Errorf("%v, %v, %v", maxTTL, persistent, ok)
	}
}

func TestANewestKeyStaysWithNoTimeLeft(t *testing.T) {
	rule := evictAny("ml", hour)
	rule.KeepNewest = 1
	c := exactCensus(rule)
	c.look(0, expiring(0), 1, 0)
	if maxTTL, _, _ := c.KeepNewestCut(0); maxTTL >= 0 {
		t.Errorf("up to %v may go", maxTTL)
	}
}

func TestASampleCannotTellTheNewest(t *testing.T) {
	rule := evictAny("ml", hour)
	rule.KeepNewest = 50_000
	c := NewCensus(Force, []Rule{rule, evictAny("all may go", hour)})
	for i := range 1000 {
		c.look(0, expiring(time.Duration(i)*hour/1000), 100, 0)
	}
	c.Population(100_000, false)
	if maxTTL, persistent, ok := c.KeepNewestCut(0); maxTTL >= 0 || persistent || ok {
		t.Errorf("%v, %v, %v", maxTTL, persistent, ok)
	}
	if maxTTL, persistent, ok := c.KeepNewestCut(1); maxTTL < 1000*hour || !persistent || !ok {
		t.Errorf("nothing to keep: %v, %v, %v", maxTTL, persistent, ok)
	}
	if got := c.Estimate(0, TakeAll()).Eligible; got < 49_000 || got > 51_000 {
		t.Errorf("%d eligible, want about half of 100,000", got)
	}
}

func TestMemoryDependsOnTheFamiliesNotOnTheKeys(t *testing.T) {
	rules := make([]Rule, 100)
	for i := range rules {
		rules[i] = appCache()
	}
	fill := func(c *Census) {
		for i := range rules {
			for k := range bands {
				c.look(i, expiring(edge(k+1, hour)), float64(k), 0)
			}
		}
	}
	var before, filled, again runtime.MemStats
	runtime.ReadMemStats(&before)
	c := NewCensus(Force, rules)
	fill(c)
	runtime.ReadMemStats(&filled)
	fill(c)
	runtime.ReadMemStats(&again)
	if used := filled.TotalAlloc - before.TotalAlloc; used > 15<<20 {
		t.Errorf("100 families take %s", FormatSize(int64(used)))
	}
	if more := again.TotalAlloc - filled.TotalAlloc; more > 64<<10 {
		t.Errorf("as many keys again take %s", FormatSize(int64(more)))
	}
}

func FuzzABandHoldsItsUpperEdge(f *testing.F) {
	f.Add(int64(30*time.Minute), int64(5*time.Minute))
	f.Add(int64(1), int64(1))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64-1))
	f.Add(int64(4321), int64(2))
	f.Fuzz(func(t *testing.T, lifetime, ttl int64) {
		if lifetime <= 0 || ttl < 0 || ttl > lifetime {
			return
		}
		l, d := time.Duration(lifetime), time.Duration(ttl)
		i := bandOf(d, l)
		if i < 0 || i >= bands || d > edge(i+1, l) || d > 0 && d <= edge(i, l) {
			t.Fatalf("%d of %d is in band %d, (%d, %d]", ttl, lifetime, i, edge(i, l), edge(i+1, l))
		}
	})
}
