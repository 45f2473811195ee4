package main

import (
	"slices"
	"testing"
	"time"
)

func upTo(n int) []time.Duration {
	var all []time.Duration
	for i := n; i > 0; i-- {
		all = append(all, time.Duration(i))
	}
	return all
}

func TestAPercentileIsTheLeastValueThatSoManyDoNotExceed(t *testing.T) {
	for _, c := range []struct {
		values      []time.Duration
		thousandths int
		want        time.Duration
	}{
		{nil, 990, 0},
		{upTo(1), 500, 1},
		{upTo(1), 999, 1},
		{upTo(2), 500, 1},
		{upTo(100), 500, 50},
		{upTo(100), 990, 99},
		{upTo(100), 999, 100},
		{upTo(1000), 999, 999},
		{upTo(1001), 999, 1000},
		{upTo(1000), 1000, 1000},
	} {
		if got := percentile(c.values, c.thousandths); got != c.want {
			t.Errorf("percentile(%d values, %d) = %d, want %d", len(c.values), c.thousandths, got, c.want)
		}
	}
}

func TestAPercentileLeavesItsValuesInTheirOrder(t *testing.T) {
	values := upTo(10)
	percentile(values, 500)
	if !slices.Equal(values, upTo(10)) {
		t.Errorf("the values are %v now", values)
	}
}

func TestOnlyWhatIsAboveALimitIsOverIt(t *testing.T) {
	if got := over(upTo(10), 7); got != 3 {
		t.Errorf("%d of 1…10 are over 7, want 3", got)
	}
}

func TestTheSpreadHasTheMiddleAndTheEnds(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{5, 1}, spread{3, 1, 5}},
		{[]float64{9, 1, 2}, spread{2, 1, 9}},
		{[]float64{4, 1, 2, 8}, spread{3, 1, 8}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("spreadOf(%v) = %v, want %v", c.values, got, c.want)
		}
	}
	if got := (spread{1.234, 0.5, 10}).factor(); got != "1.23 (0.50–10.00)" {
		t.Errorf("written as %q", got)
	}
	if got := (spread{-0.04, -0.16, 0.04}).tenths(); got != "0.0 (-0.2–0.0)" {
		t.Errorf("written as %q", got)
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	// The machine was ten times slower in the second round, for both: no ratio may show it.
	got := ratios([]float64{2, 20, 4}, []float64{1, 10, 2})
	if !slices.Equal(got, []float64{2, 2, 2}) {
		t.Errorf("ratios = %v, want all 2", got)
	}
	if got := ratios([]float64{2, 4, 6}, []float64{1, 0}); !slices.Equal(got, []float64{2}) {
		t.Errorf("ratios without a partner = %v, want only the first round's", got)
	}
}

func TestEachRoundBeginsWithAnother(t *testing.T) {
	all := []int{1, 2, 3}
	for round, want := range [][]int{{1, 2, 3}, {2, 3, 1}, {3, 1, 2}, {1, 2, 3}} {
		if got := rotated(all, round); !slices.Equal(got, want) {
			t.Errorf("round %d: %v, want %v", round, got, want)
		}
	}
	if !slices.Equal(all, []int{1, 2, 3}) || rotated([]int(nil), 5) != nil {
		t.Error("rotating must leave the list alone, and an empty one empty")
	}
}
