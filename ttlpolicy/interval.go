package ttlpolicy

import "math"

const (
	z95 = 1.959964 // two-sided 95 %, so one-sided 97.5 %

	// noneSeen is the most keys to be expected, with 97.5 %, where not one was
	// seen: -ln 0.025, the "rule of three" at that confidence.
	noneSeen = 3.689

	// modelShare is what the bytes of a key may err by even when every key was
	// measured: MEMORY USAGE leaves parts out and calibration is not perfect. Where
	// it is known to be worse, see Doubt.
	modelShare = 0.02

	// The spread of sizes that few keys show is too small, the more so where
	// few large keys hold the bytes. These widen it; chosen by simulation so
	// that intervals hold in 95 % for log-normal sizes up to σ = 1.5.
	spreadPrior   = 2.0 // as if so many keys had been seen with a log-variance of 1
	spreadError   = 1.5
	smallSample   = 0.5
	unseenSize    = 3.0  // an unseen key may be so many times the mean
	maxLogSpread  = 20.0 // keeps exp finite
	maxSizeFactor = 4.0
)

// sum is a tally with its sizes filled in; sums of several families add up.
type sum struct {
	hits    float64
	bytes   float64
	squares float64 // Σ size², widened for what few keys don't show
	imputed float64 // variance from sizes that were not measured
	typical float64 // the largest mean size of a family
}

func (s *sum) add(t sum) {
	s.hits += t.hits
	s.bytes += t.bytes
	s.squares += t.squares
	s.imputed += t.imputed
	s.typical = max(s.typical, t.typical)
}

// price fills the sizes that were not measured with the family's mean.
func (c *Census) price(f *family, t tally) sum {
	mean := c.mean(f)
	s := sum{hits: t.keys, bytes: t.bytes + t.unsized*mean, typical: mean}
	if s.bytes == 0 {
		return s
	}
	spread := math.Exp(f.logVariance()) - 1
	if n := t.keys - t.unsized; n > 1 && t.bytes > 0 {
		m := t.bytes / n
		spread = max(spread, (t.squares/n/(m*m)-1)*n/(n-1))
	}
	s.squares = s.bytes * s.bytes / s.hits * (1 + spread)
	switch {
	case f.sized > 0:
		s.imputed = t.unsized * (1 + t.unsized/f.sized) * mean * mean * spread
	default:
		s.imputed = t.unsized * t.unsized * mean * mean
	}
	return s
}

// mean is the mean size of the family's keys, or of all where none was measured.
func (c *Census) mean(f *family) float64 {
	if f.sized > 0 {
		return f.bytes / f.sized
	}
	var sized, bytes float64
	for i := range c.families {
		sized += c.families[i].sized
		bytes += c.families[i].bytes
	}
	if sized == 0 {
		return 0
	}
	return bytes / sized
}

// logVariance is how widely the sizes spread, on a logarithmic scale. There a
// few dozen keys tell the spread of a skewed family, of which they need not
// have met the large keys that hold most of its bytes.
func (f *family) logVariance() float64 {
	n := f.sized
	if n == 0 {
		return 1
	}
	seen := max(0, f.logSquares-f.logs*f.logs/n)
	v := (seen + spreadPrior) / (max(n-1, 0) + spreadPrior)
	return min(v*(1+spreadError/math.Sqrt(n)), maxLogSpread)
}

// count scales a number of keys seen to the population, with its 95 % interval.
func (c *Census) count(hits float64) (n, low, high float64) {
	n = hits * c.scale()
	if c.exact {
		return n, n, n
	}
	l, h := proportion(hits, float64(c.looked))
	return n, min(l*c.size()*max(0, 1-2*c.stale), n), max(h*c.size(), n)
}

// weigh scales bytes to the population, with their 95 % interval. Model is the
// share by which they may err besides sampling.
//
// The share of keys and the mean size err independently, so that their relative
// deviations add in quadrature. That of the size is taken on a logarithmic
// scale: a sample of skewed sizes falls short more than it overshoots.
func (c *Census) weigh(s sum, model float64) (est, low, high float64) {
	scale := c.scale()
	est = s.bytes * scale
	if c.exact {
		half := math.Hypot(z95*math.Sqrt(s.imputed), model*s.bytes)
		return est, max(0, est-half), est + half
	}
	shareLow, shareHigh := proportion(s.hits, float64(c.looked))
	if s.bytes == 0 {
		return 0, 0, shareHigh * c.size() * s.typical * unseenSize
	}
	share := s.hits / float64(c.looked)
	spread := max(0, s.hits*s.squares/(s.bytes*s.bytes)-1)
	size := min(z95*(1+smallSample/s.hits)*math.Sqrt(spread/s.hits), maxSizeFactor)
	other := math.Hypot(model, z95*math.Sqrt(s.imputed)/s.bytes)
	down := math.Hypot(math.Hypot(1-shareLow/share, 1-math.Exp(-size)), other)
	up := math.Hypot(math.Hypot(shareHigh/share-1, math.Exp(size)-1), other)
	down, up = math.Hypot(down, c.stale), math.Hypot(up, c.stale/max(1-c.stale, c.stale))
	return est, est * max(0, 1-down), est * (1 + up)
}

// proportion is the 95 % interval of hits out of n.
func proportion(hits, n float64) (low, high float64) { return wilson(hits, n, z95, noneSeen) }

// wilson is the interval of hits out of n that z stands for: Wilson's with the
// continuity correction, without which rare families are covered too seldom.
// Unseen is the most to be expected where there was no hit.
func wilson(hits, n, z, unseen float64) (low, high float64) {
	switch {
	case n <= 0:
		return 0, 1
	case hits <= 0:
		return 0, min(1, unseen/n)
	}
	p, zz := min(hits/n, 1), z*z
	width := 2 * (n + zz)
	low = (2*n*p + zz - 1 - z*math.Sqrt(zz-2-1/n+4*p*(n*(1-p)+1))) / width
	high = (2*n*p + zz + 1 + z*math.Sqrt(zz+2-1/n+4*p*(n*(1-p)-1))) / width
	if p == 1 {
		return max(0, low), 1
	}
	return max(0, low), min(1, high)
}
