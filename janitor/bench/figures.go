package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// percentile is the least value that at least a share of all values does not exceed; 0 of none. The share is in
// thousandths, so that 99.9 % is one too.
func percentile(values []time.Duration, thousandths int) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := (len(sorted)*thousandths + 999) / 1000
	return sorted[max(rank, 1)-1]
}

// over counts the values above a limit.
func over(values []time.Duration, limit time.Duration) int {
	n := 0
	for _, v := range values {
		if v > limit {
			n++
		}
	}
	return n
}

// tooLong is what a request of the foreground client must not take.
const tooLong = 10 * time.Millisecond

// latencyHeader names what latencyCells writes, milliseconds first.
func latencyHeader() []string { return []string{"p50", "p99", "p99.9", "worst", "over 10 ms"} }

func latencyCells(all []time.Duration) []string {
	var cells []string
	for _, share := range []int{500, 990, 999, 1000} {
		cells = append(cells, milliseconds(percentile(all, share)))
	}
	return append(cells, fmt.Sprintf("%d of %d", over(all, tooLong), len(all)))
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1000) }

// spread is a figure from several rounds.
type spread struct{ Median, Min, Max float64 }

// spreadOf takes the middle of the two middle values where their number is even; NaN of none would only hide a
// mistake, so it panics there.
func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// ratios divides round by round: both figures of a ratio are from the same few minutes, so that what slows the machine
// down for a while slows both down. Rounds that only one side has are left out.
func ratios(of, by []float64) []float64 {
	var all []float64
	for i := range min(len(of), len(by)) {
		if by[i] > 0 {
			all = append(all, of[i]/by[i])
		}
	}
	return all
}

// factor writes a spread of ratios: "1.12 (1.05–1.30)".
func (s spread) factor() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max) }

// tenths is a spread with one decimal; what rounds to zero has no sign.
func (s spread) tenths() string {
	one := func(v float64) float64 {
		if v = math.Round(10*v) / 10; v == 0 {
			return 0
		}
		return v
	}
	return fmt.Sprintf("%.1f (%.1f–%.1f)", one(s.Median), one(s.Min), one(s.Max))
}

// rotated is the order of a round: each round begins with another one, so that none always follows the same.
func rotated[T any](all []T, round int) []T {
	if len(all) == 0 {
		return nil
	}
	by := round % len(all)
	return append(slices.Clone(all[by:]), all[:by]...)
}
