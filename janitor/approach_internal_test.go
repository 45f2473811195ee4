package janitor

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// world is a keyspace whose keys free other amounts than they are estimated to, and whose memory others move too.
type world struct {
	*rand.Rand
	times []float64 // how many times more than estimated each family's keys free
	share []float64 // how often a key is of each family
	size  []float64 // bytes of a key, as estimated, in the mean
	noise float64   // bytes that others move memory by until a reading, at most
}

// draw is one key's family and estimated size.
func (w world) draw() (family int, size float64) {
	at := w.Float64()
	for family = range w.share[1:] {
		if at -= w.share[family]; at < 0 {
			return family, w.size[family] * (0.5 + w.Float64())
		}
	}
	return len(w.share) - 1, w.size[len(w.share)-1] * (0.5 + w.Float64())
}

// run nears a target gap bytes away, in batches of each family's keys as a walk meets them, and tells by how much it was passed.
func (w world) run(t *testing.T, gap float64) (past float64, readings int) {
	t.Helper()
	a := approach{families: make([]evidence, len(w.times))}
	open, shown, freed := make([][]float64, len(w.times)), gap, 0.0
	for range 10_000_000 {
		family, size := w.draw()
		open[family] = append(open[family], size)
		for sizes := open[family]; len(sizes) >= 120; open[family] = sizes {
			n := a.room(shown, family, sizes)
			if n > 0 {
				a.families[family].since += sum(sizes[:n])
				freed += sum(sizes[:n]) * w.times[family]
				sizes = sizes[n:]
				continue
			}
			moved := w.noise * w.Float64()
			before := shown
			shown = gap - freed + moved
			a.reading(before - shown)
			if readings++; shown <= 0 {
				return -shown, readings
			}
		}
	}
	t.Fatalf("after %d readings %.0f of %.0f bytes are freed", readings, freed, gap)
	return 0, 0
}

func TestTheTargetIsHardlyPassedHoweverFarOffFamiliesEstimatesAre(t *testing.T) {
	const gap = 100e6
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := world{Rand: r, noise: 80e3}
		for range 1 + r.IntN(3) {
			w.times = append(w.times, math.Pow(mostUnderstated, r.Float64()))
			w.share = append(w.share, math.Pow(1000, -r.Float64()))
			w.size = append(w.size, 100*math.Pow(100, r.Float64()))
		}
		total, largest := sum(w.share), 0.0
		for i := range w.share {
			w.share[i] /= total
			largest = max(largest, 1.5*w.size[i]*w.times[i])
		}
		if past, readings := w.run(t, gap); past > 0.005*gap+largest || readings > 60 {
			t.Errorf("seed %d: %.1f %% past the target, after %d readings; families free %.1f times what was estimated, are %.3f of the keys and have %.0f bytes",
				seed, 100*past/gap, readings, w.times, w.share, w.size)
		}
	}
}

func TestEstimatesThatHoldCostFewReadings(t *testing.T) {
	w := world{Rand: rand.New(rand.NewPCG(5, 6)), times: []float64{1, 1, 1}, share: []float64{0.5, 0.3, 0.2}, size: []float64{300, 1000, 5000}, noise: 80e3}
	if past, readings := w.run(t, 1e9); past > 2*w.noise || readings > 20 {
		t.Errorf("%.0f bytes past the target, after %d readings", past, readings)
	}
}

func TestAStepIsBoundedByWhatIsLeftAndByWhatHasGoneOfTheFamily(t *testing.T) {
	for name, tt := range map[string]struct {
		known     evidence
		rehearsed bool
		gap       float64
		sizes     []float64
		want      int
	}{
		"a key larger than all that is left":             {evidence{}, false, 100, []float64{5000, 1}, 1},
		"and again after others":                         {evidence{since: 1}, false, 100, []float64{5000, 1}, 0},
		"or beside them":                                 {evidence{onWay: 1}, false, 100, []float64{5000, 1}, 0},
		"nothing known: a little":                        {evidence{}, false, 1 << 30, slices.Repeat([]float64{1 << 20}, 5), 2},
		"four times what is known":                       {evidence{proven: 1 << 20}, false, 100 << 20, slices.Repeat([]float64{1 << 20}, 9), 4},
		"of that, what is gone and on its way":           {evidence{proven: 1 << 20, since: 1 << 20, onWay: 1 << 20}, false, 100 << 20, slices.Repeat([]float64{1 << 20}, 9), 2},
		"four fifths of what is left":                    {evidence{proven: 1 << 30}, false, 10 << 20, slices.Repeat([]float64{1 << 20}, 20), 8},
		"of that, as far as keys free what they seem to": {evidence{proven: 1 << 30, times: 4}, false, 10 << 20, slices.Repeat([]float64{1 << 20}, 20), 2},
		"a rehearsal has nothing to doubt":               {evidence{}, true, 10 << 20, slices.Repeat([]float64{1 << 20}, 20), 8},
	} {
		t.Run(name, func(t *testing.T) {
			a := approach{rehearsed: tt.rehearsed, families: []evidence{tt.known}}
			if n := a.room(tt.gap, 0, tt.sizes); n != tt.want {
				t.Errorf("%d keys may go, want %d", n, tt.want)
			}
		})
	}
}
