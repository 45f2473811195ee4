package ttlpolicy

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// population is a simulated node: the sizes of one family's keys among others.
type population struct {
	sizes    []float64
	eligible float64 // bytes
	total    int
}

func populate(r *rand.Rand, keys, total int, sigma float64) population {
	p := population{sizes: make([]float64, keys), total: total}
	for i := range p.sizes {
		p.sizes[i] = 600 * math.Exp(sigma*r.NormFloat64())
	}
	p.eligible = p.below(hour)
	return p
}

// sample draws n keys with replacement. The keys of no interest are a common
// family of sizes like the first's, so that a family that was not met has a mean to take.
func (p population) sample(r *rand.Rand, n int) *Census {
	c := NewCensus(Force, []Rule{appCache(), {Family: "others", Lifetime: hour}})
	for range n {
		if i := r.IntN(p.total); i < len(p.sizes) {
			c.look(0, expiring(p.ttl(i)), p.sizes[i], 0)
		} else {
			c.look(1, expiring(hour/2), p.sizes[i%len(p.sizes)], 0)
		}
	}
	c.Population(int64(p.total), false)
	return c
}

// ttl spreads the keys evenly over an hour, independently of their sizes: at
// force the older half is eligible.
func (p population) ttl(i int) time.Duration {
	return hour * time.Duration(i+1) / time.Duration(len(p.sizes))
}

// below is what deleting the eligible keys up to a remaining TTL frees.
func (p population) below(ttl time.Duration) (bytes float64) {
	for i, size := range p.sizes {
		if p.ttl(i) <= min(ttl, hour/2) {
			bytes += size
		}
	}
	return bytes
}

func (p population) freed(cut Cut) float64 {
	switch {
	case cut.None:
		return 0
	case cut.All:
		return p.eligible
	}
	return p.below(cut.TTL)
}

func TestIntervalsHoldInNinetyFiveOfAHundredSamples(t *testing.T) {
	const total, draws, trials = 50_000, 2000, 400
	for _, sigma := range []float64{0, 0.5, 1, 1.5} { // of log-normal sizes; 0: all even
		overall := map[string]float64{}
		families := []int{10, 50, 170, 500, 5000, 50_000}
		for _, keys := range families {
			r := rand.New(rand.NewPCG(uint64(keys), uint64(sigma*10)))
			var p population
			held := map[string]float64{}
			check := func(what string, low, truth, high float64) {
				if low <= truth && truth <= high {
					held[what]++
				}
			}
			for trial := range trials {
				if trial%20 == 0 {
					p = populate(r, keys, total, sigma)
				}
				c := p.sample(r, draws)
				got := c.Estimate(0, TakeAll())
				check("keys", float64(got.EligibleLow), float64(keys/2), float64(got.EligibleHigh))
				check("bytes", float64(got.BytesLow), p.eligible, float64(got.BytesHigh))
				_, low, high := c.EligibleBytes()
				check("bytes of all families", float64(low), p.eligible, float64(high))
				_, activeLow, activeHigh := c.ActiveWithin(0, hour/10-1)
				check("active", activeLow, float64(keys/10), activeHigh)
				need := p.eligible * float64(1+trial%10) / 10
				check("cautious cut", 0, p.freed(c.SolveLow(int64(need), 0)[0]), need)
			}
			for what, n := range held {
				share := 100 * n / trials
				overall[what] += share / float64(len(families))
				want := 95.0
				if what == "cautious cut" {
					want = 97.5
				}
				// Two standard errors of so many trials below what is promised.
				if share < want-2*math.Sqrt(want*(100-want)/trials) {
					t.Errorf("sigma %g, %d of %d keys: the interval of %s held %.1f %%", sigma, keys, total, what, share)
				}
			}
		}
		for what, share := range overall {
			t.Logf("sigma %g: %s %.1f %%", sigma, what, share)
			if share < 95 {
				t.Errorf("sigma %g: the interval of %s held %.1f %%", sigma, what, share)
			}
		}
	}
}

func TestAFewHugeKeysWidenTheInterval(t *testing.T) {
	const trials = 400
	for _, huge := range []int{5, 10, 20} { // one key in so many, 200 times the others' size
		r := rand.New(rand.NewPCG(uint64(huge), 0))
		p := populate(r, 20_000, 50_000, 0)
		for i := range p.sizes {
			if i%huge == 0 {
				p.sizes[i] *= 200
			}
		}
		p.eligible = p.below(hour)
		held := 0
		for range trials {
			if got := p.sample(r, 2000).Estimate(0, TakeAll()); float64(got.BytesLow) <= p.eligible && p.eligible <= float64(got.BytesHigh) {
				held++
			}
		}
		if held*100 < 95*trials {
			t.Errorf("one huge key in %d: the interval held %d times of %d", huge, held, trials)
		}
	}
}
