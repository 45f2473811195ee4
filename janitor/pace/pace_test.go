package pace_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"redis-janitor/janitor/pace"
	"redis-janitor/ttlpolicy"
)

func paceOf(t *testing.T, name string) pace.Pace {
	t.Helper()
	p, err := pace.For(name, ttlpolicy.Cleanup)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAutoIsGentleAtCleanupBalancedAtForceAndFastAtCritical(t *testing.T) {
	for level, want := range map[ttlpolicy.Level]string{
		ttlpolicy.OK: "gentle", ttlpolicy.Cleanup: "gentle", ttlpolicy.Force: "balanced", ttlpolicy.Critical: "fast",
	} {
		got, err := pace.For("auto", level)
		if err != nil || got.Name != want {
			t.Errorf("at %v: %q, %v, want %q", level, got.Name, err, want)
		}
	}
	if _, err := pace.For("brisk", ttlpolicy.OK); err == nil {
		t.Error("an unknown pace was taken for a pace")
	}
}

func TestTheSlicesAreWhatThePacesPromise(t *testing.T) {
	for name, want := range map[string]time.Duration{
		"gentle": 500 * time.Microsecond, "balanced": time.Millisecond, "fast": 5 * time.Millisecond,
	} {
		if got := paceOf(t, name).Slice; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestCloseByNoCommandIsLargerThanFarOffAndNonePagesAhead(t *testing.T) {
	for _, name := range []string{"gentle", "balanced", "fast"} {
		far := paceOf(t, name)
		near := far.At(50 * time.Microsecond)
		if near.Keys > far.Keys || near.Page > far.Page || near.Ahead != 0 || near.Keys < 1 || near.Page < 1 {
			t.Errorf("%s: close by %+v, far off %+v", name, near, far)
		}
		if far.At(5*time.Millisecond) != far || far.At(0) != far {
			t.Errorf("%s: far off, or at an unknown distance, the pace changed", name)
		}
		if far.AtOnce > 0 && (near.AtOnce == 0 || near.AtOnce > far.AtOnce) {
			t.Errorf("%s: %d at once close by, %d far off", name, near.AtOnce, far.AtOnce)
		}
		if near.Slice != far.Slice || near.Bytes != far.Bytes || near.Rest != far.Rest {
			t.Errorf("%s: the distance changed what the pace promises: %+v, %+v", name, near, far)
		}
	}
}

// A server that needs a fixed time a unit, with noise, and a distance: after a while no command of an
// even load holds it longer than the slice, and commands are as large as half the slice allows.
func TestCommandsGrowToWhatTheSliceAllowsAndNoFurther(t *testing.T) {
	for _, perUnit := range []time.Duration{time.Microsecond, 5 * time.Microsecond, 60 * time.Microsecond} {
		random := rand.New(rand.NewPCG(1, uint64(perUnit)))
		floor := &pace.Floor{}
		floor.Saw(100 * time.Microsecond)
		const slice = time.Millisecond
		s := pace.NewSizer(pace.Pace{Slice: slice, AtOnce: 1}, 10, 500, floor)
		for range 200 {
			n := s.Size()
			noise := time.Duration(random.Int64N(int64(20 * time.Microsecond)))
			s.Took(n, 100*time.Microsecond+time.Duration(n)*perUnit+noise)
		}
		held := time.Duration(s.Size()) * perUnit
		if held > slice {
			t.Errorf("at %v a unit a command of %d holds the server for %v", perUnit, s.Size(), held)
		}
		if s.Size() < 500 && held < slice/4 {
			t.Errorf("at %v a unit commands stay at %d units, %v", perUnit, s.Size(), held)
		}
	}
}

func TestOneSlowCommandShrinksTheNextAndATooLargeReplyShrinksItMore(t *testing.T) {
	s := pace.NewSizer(pace.Pace{Slice: time.Millisecond, AtOnce: 1}, 10, 500, &pace.Floor{})
	for range 50 {
		s.Took(s.Size(), time.Microsecond)
	}
	if s.Size() != 500 {
		t.Fatalf("it has grown to %d, not to its bound", s.Size())
	}
	s.Took(500, 2*time.Millisecond)
	if got := s.Size(); got >= 500 || got < 10 {
		t.Errorf("after a slow command: %d", got)
	}
	before := s.Size()
	s.Shrink()
	if got := s.Size(); got > before/4 || got < 1 {
		t.Errorf("after a reply too large: %d of %d", got, before)
	}
}

func TestAShortCommandDoesNotSayThatALargerOneWouldFit(t *testing.T) {
	s := pace.NewSizer(pace.Pace{Slice: time.Millisecond, AtOnce: 1}, 100, 500, &pace.Floor{})
	for range 50 {
		s.Took(3, time.Microsecond)
	}
	if s.Size() != 100 {
		t.Errorf("three units at a time made commands grow to %d", s.Size())
	}
}

// Of several that are under way, each may have waited for the others.
func TestWaitingForOnesOwnCommandsDoesNotMakeThemSmaller(t *testing.T) {
	const slice = time.Millisecond
	s := pace.NewSizer(pace.Pace{Slice: slice, AtOnce: 3}, 20, 400, &pace.Floor{})
	for i := range 100 {
		waited := time.Duration(i%4) * 600 * time.Microsecond
		s.Took(s.Size(), time.Duration(s.Size())*time.Microsecond+waited)
	}
	if s.Size() != 400 {
		t.Errorf("commands of 0.4 ms that wait for each other stay at %d units, not 400", s.Size())
	}
}

func TestBesideOthersACommandThatIsTooLargeBecomesSmallerAllTheSame(t *testing.T) {
	for name, each := range map[string]time.Duration{"by a half": 1500 * time.Microsecond, "by far": 10 * time.Millisecond} {
		s := pace.NewSizer(pace.Pace{Slice: time.Millisecond, AtOnce: 3}, 20, 400, &pace.Floor{})
		for range 50 {
			s.Took(s.Size(), 0)
		}
		perUnit := each / 400
		for range 40 {
			s.Took(s.Size(), time.Duration(s.Size())*perUnit)
		}
		if held := time.Duration(s.Size()) * perUnit; held > time.Millisecond && s.Size() > 20 {
			t.Errorf("too large %s: commands of %d units still hold the server for %v", name, s.Size(), held)
		}
	}
	s := pace.NewSizer(pace.Pace{Slice: time.Millisecond, AtOnce: 3}, 20, 400, &pace.Floor{})
	s.Took(20, time.Microsecond)
	if s.Took(s.Size(), 2*time.Millisecond); s.Size() > 30 {
		t.Errorf("right after a command of two slices they grew to %d units, since one before was cheap", s.Size())
	}
	for range 50 {
		s.Took(s.Size(), 0)
	}
	if s.Took(400, 4*time.Millisecond); s.Size() == 400 {
		t.Error("a command of four slices is waited for to come again")
	}
}

func TestTheFloorIsTheShortestTrip(t *testing.T) {
	f := &pace.Floor{}
	if f.Trip() != 0 || f.Held(time.Second) != time.Second {
		t.Error("a floor nobody has seen is known")
	}
	for _, trip := range []time.Duration{3, 1, 2} {
		f.Saw(trip)
	}
	if f.Trip() != 1 {
		t.Errorf("got %v", f.Trip())
	}
}

func TestTheUnevennessOfANetworkIsNotTakenForTheServersTime(t *testing.T) {
	const us = time.Microsecond
	for _, c := range []struct {
		name       string
		first      []time.Duration
		later      time.Duration
		trip, held time.Duration
	}{
		{"as usual", []time.Duration{1300 * us, 1100 * us, 1200 * us}, 1150 * us, 1200 * us, 0},
		{"above it", []time.Duration{1300 * us, 1100 * us, 1200 * us}, 1150 * us, 1500 * us, 300 * us},
		{"below it", []time.Duration{1300 * us, 1100 * us, 1200 * us}, 1150 * us, 1000 * us, 0},
		{"others were at work at first", []time.Duration{9000 * us, 8000 * us, 9000 * us}, 1000 * us, 3000 * us, 1500 * us},
		{"a very uneven way", []time.Duration{5000 * us, 9000 * us, 9500 * us}, 6000 * us, 9000 * us, 3500 * us},
		{"one trip", []time.Duration{100 * us}, 100 * us, 350 * us, 250 * us},
	} {
		f := &pace.Floor{}
		f.Began(c.first)
		f.Saw(c.later)
		if got := f.Held(c.trip); got != c.held {
			t.Errorf("%s: %v, want %v", c.name, got, c.held)
		}
	}
}

func TestFarOffTheWayIsAPartOfTheRest(t *testing.T) {
	const us = time.Microsecond
	for _, c := range []struct {
		atOnce          int
		way, trip, rest time.Duration
	}{
		{1, 50 * us, 250 * us, 400 * us},
		{1, 1000 * us, 1200 * us, 0},
		{1, 1000 * us, 2000 * us, 1000 * us},
		{1, 20_000 * us, 20_400 * us, 0},
		{4, 1000 * us, 2000 * us, 1750 * us}, // the others are at the server meanwhile
	} {
		f := &pace.Floor{}
		f.Saw(c.way)
		if got := (pace.Pace{Rest: 2, AtOnce: c.atOnce}).RestAfter(c.trip, f); got != c.rest {
			t.Errorf("%v away, %d at once, after %v: %v, want %v", c.way, c.atOnce, c.trip, got, c.rest)
		}
	}
}

func feels(g *pace.Governor, trip time.Duration) {
	for range 9 {
		g.Felt(trip)
	}
}

func TestItBacksOffWhileOthersSufferAndRecoversAfterwards(t *testing.T) {
	p := paceOf(t, "gentle")
	g := pace.NewGovernor(p, &pace.Floor{})
	for range 3 {
		feels(g, 50*time.Millisecond)
	}
	slowed := g.Delay()
	if slowed == 0 || g.Backoffs() != 3 {
		t.Fatalf("others suffered three times: delay %v, %d backoffs", slowed, g.Backoffs())
	}
	for range 30 {
		feels(g, 50*time.Millisecond)
	}
	if g.Delay() > 200*time.Millisecond {
		t.Errorf("a trickle was asked for, not a stop: %v", g.Delay())
	}
	for range 20 {
		feels(g, 50*time.Microsecond)
	}
	if g.Delay() != 0 {
		t.Errorf("others are well again, and the delay stays at %v", g.Delay())
	}
}

func TestOneSlowPingIsTheSchedulersNoise(t *testing.T) {
	g := pace.NewGovernor(paceOf(t, "gentle"), &pace.Floor{})
	for i := range 90 {
		trip := 50 * time.Microsecond
		if i%9 < 4 {
			trip = time.Second
		}
		g.Felt(trip)
	}
	if g.Delay() != 0 || g.Backoffs() != 0 {
		t.Errorf("four slow pings of nine slowed it down: %v", g.Delay())
	}
}

func TestAStrainHoldsUntilItsEndHoweverWellThePingsAre(t *testing.T) {
	p := paceOf(t, "fast")
	g := pace.NewGovernor(p, &pace.Floor{})
	g.Strain("fork", true)
	g.Strain("fork", true)
	feels(g, time.Microsecond)
	least := g.Delay()
	if least == 0 || g.Backoffs() != 1 {
		t.Errorf("under a fork: delay %v, %d backoffs", least, g.Backoffs())
	}
	for range 8 {
		feels(g, 50*time.Millisecond)
	}
	if g.Delay() <= least {
		t.Errorf("others suffer besides, and the delay stays at %v", g.Delay())
	}
	for range 20 {
		feels(g, time.Microsecond)
	}
	if g.Delay() != least {
		t.Errorf("others are well again, and under the fork the delay stays at %v, want %v", g.Delay(), least)
	}
	g.Strain("fork", false)
	for range 10 {
		feels(g, time.Microsecond)
	}
	if g.Delay() != 0 {
		t.Errorf("after the fork: delay %v", g.Delay())
	}
}

func TestAtAGentlePaceOneCommandIsUnderWayAtATime(t *testing.T) {
	g := pace.NewGovernor(paceOf(t, "gentle"), &pace.Floor{})
	var now, most atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				_ = g.Run(t.Context(), func() error {
					most.Store(max(most.Load(), now.Add(1)))
					defer now.Add(-1)
					return nil
				})
			}
		})
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d commands were under way together", most.Load())
	}
}

func TestRestsAreTakenInFull(t *testing.T) {
	p := paceOf(t, "gentle")
	g := pace.NewGovernor(p, &pace.Floor{})
	start := time.Now()
	held := time.Duration(0)
	for range 40 {
		_ = g.Run(t.Context(), func() error {
			from := time.Now()
			for time.Since(from) < 200*time.Microsecond {
				continue
			}
			held += time.Since(from)
			return nil
		})
	}
	// A lower bound only: a busy machine may take longer, never less. Of the last rests up to two
	// milliseconds may still be due, or were taken in advance.
	if total := time.Since(start); total < held+time.Duration(p.Rest*float64(held))-2*time.Millisecond {
		t.Errorf("commands of %v with rests of %g times that took %v", held, p.Rest, total)
	}
}

func TestACommandIsNotBegunOnceTheRunIsStopped(t *testing.T) {
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	g := pace.NewGovernor(paceOf(t, "gentle"), &pace.Floor{})
	g.Strain("fork", true)
	cancel(stop)
	err := g.Run(ctx, func() error { t.Error("it ran"); return nil })
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want the cause", err)
	}
	var none *pace.Governor
	ran := false
	if err := none.Run(ctx, func() error { ran = true; return nil }); err != nil || !ran {
		t.Error("without a governor nothing is held back")
	}
}
