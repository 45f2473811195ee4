package main

import (
	"slices"
	"testing"
	"time"
)

func TestTheTraceIsTheSameEachTimeAndInOrder(t *testing.T) {
	events := trace(1)
	if !slices.Equal(events, trace(1)) {
		t.Error("the same seed gave another trace")
	}
	if slices.Equal(events, trace(2)) {
		t.Error("another seed gave the same trace")
	}
	if !slices.IsSortedFunc(events, func(a, b event) int { return int(a.at - b.at) }) {
		t.Error("the events are not in the order of time")
	}
	if first, last := events[0].at, events[len(events)-1].at; first < -historyFor || last >= playedFor || last < playedFor-minute {
		t.Errorf("it runs from %s to %s", first, last)
	}
}

func TestAFewResultsAreReadMost(t *testing.T) {
	reads, total := map[uint32]int{}, 0
	for _, e := range trace(1) {
		if e.action == useResult {
			reads[e.subject]++
			total++
		}
	}
	var counts []int
	for _, n := range reads {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	top := 0
	for _, n := range counts[len(counts)*99/100:] {
		top += n
	}
	if share := float64(top) / float64(total); share < 0.3 || share > 0.9 {
		t.Errorf("the top 1 %% of results get %.0f %% of the reads", 100*share)
	}
	if once := slices.IndexFunc(counts, func(n int) bool { return n > 1 }); once < len(counts)/4 {
		t.Errorf("only %d of %d results are read once: there is no long tail", once, len(counts))
	}
}

func TestUsersComeBackTheLikelierTheShorterTheyHaveBeenGone(t *testing.T) {
	last := map[uint32]time.Duration{}
	var gaps [4]int // of 5 to 10, 10 to 15, … minutes
	for _, e := range trace(1) {
		if s := e.key(); s.family == useSession {
			if before, ok := last[e.subject]; ok {
				if i := int((e.at-before)/(5*minute)) - 1; i >= 0 && i < len(gaps) {
					gaps[i]++
				}
			}
			last[e.subject] = e.at
		}
	}
	for i := 1; i < len(gaps); i++ {
		if gaps[i] == 0 || gaps[i] >= gaps[i-1] {
			t.Errorf("returns after 5, 10, 15, 20 minutes: %v, want fewer each time", gaps)
		}
	}
}

func TestThePastLeavesWhatRedisWouldHold(t *testing.T) {
	at := func(m int) time.Duration { return time.Duration(m) * minute }
	keys := past([]event{
		{at(-140), useResult, 1}, // written, and over before zero
		{at(-100), useResult, 2}, // written
		{at(-10), useResult, 2},  // read: used, but not written anew
		{at(-130), useResult, 3}, // written, over,
		{at(-5), useResult, 3},   // and written anew
		{at(-40), saveSession, 4},
		{at(-20), useSession, 4}, // read before its end
		{at(-15), saveSession, 4},
		{at(-25), useSession, 5}, // made where it was missing
		{at(-3), useBreakdown, 6},
		{at(1), useResult, 7}, // not past
	})
	want := map[subject]remembered{
		{useResult, 2}:    {at(20), at(-10)},
		{useResult, 3}:    {at(115), at(-5)},
		{useSession, 4}:   {at(15), at(-15)},
		{useSession, 5}:   {at(5), at(-25)},
		{useBreakdown, 6}: {0, at(-3)},
	}
	for s, k := range want {
		if keys[s] != k {
			t.Errorf("%v: %v, want %v", s, keys[s], k)
		}
	}
	if len(keys) != len(want)-1+breakdowns {
		t.Errorf("there are %d keys, want %d and the breakdowns", len(keys), len(want)-1)
	}
}
