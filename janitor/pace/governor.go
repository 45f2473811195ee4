package pace

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// window is how many of the canary's last pings are looked at. Their median must suffer: a single
	// slow one is the scheduler's noise.
	window = 9
	// firstDelay and longestDelay bound what is added between two commands while others suffer: from a
	// breath to a trickle.
	firstDelay   = time.Millisecond
	longestDelay = 200 * time.Millisecond
	// strainDelay is the least that is added while there is another reason to spare the server.
	strainDelay = 5 * time.Millisecond
	// leastRest is how much rest must be due before it is taken: a timer that is asked for less than a
	// millisecond takes one all the same.
	leastRest = time.Millisecond
)

// Governor lets costly commands through one after the other, with the rests that the pace asks for and
// the delays that others' suffering does. It is safe for concurrent use. A nil Governor lets
// everything through.
type Governor struct {
	pace  Pace
	floor *Floor
	turns chan struct{} // nil: no bound on commands at the same time

	mu       sync.Mutex
	trips    []time.Duration
	delay    time.Duration
	due      time.Duration // rest not taken yet; below zero: taken in advance
	strained map[string]bool
	backoffs int64
}

// NewGovernor begins without any delay.
func NewGovernor(p Pace, floor *Floor) *Governor {
	g := &Governor{pace: p, floor: floor, strained: map[string]bool{}}
	if p.AtOnce > 0 {
		g.turns = make(chan struct{}, p.AtOnce)
	}
	return g
}

// Run waits for a turn, runs one command, and rests before the next may have it.
func (g *Governor) Run(ctx context.Context, command func() error) error {
	if g == nil {
		return command()
	}
	if g.turns != nil {
		select {
		case g.turns <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		defer func() { <-g.turns }()
	}
	if err := pause(ctx, g.Delay()); err != nil {
		return err
	}
	start := time.Now()
	err := command()
	g.rest(ctx, g.pace.RestAfter(time.Since(start), g.floor))
	return err
}

// rest leaves the server alone for d, sooner or later: small rests are put together, and one that took
// longer than was asked for counts for the next.
func (g *Governor) rest(ctx context.Context, d time.Duration) {
	g.mu.Lock()
	g.due += d
	due := g.due
	if due < leastRest {
		g.mu.Unlock()
		return
	}
	g.due = 0
	g.mu.Unlock()
	start := time.Now()
	// A stopped run does not rest: the command itself is done.
	_ = pause(ctx, due)
	over := time.Since(start) - due
	g.mu.Lock()
	defer g.mu.Unlock()
	g.due = max(g.due-over, -leastRest)
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// Felt tells of one round trip of the canary: what everybody else sees, too.
func (g *Governor) Felt(trip time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.trips = append(g.trips, trip); len(g.trips) < window {
		return
	}
	g.trips = g.trips[len(g.trips)-window:]
	sorted := slices.Clone(g.trips)
	slices.Sort(sorted)
	median := sorted[window/2]
	g.trips = g.trips[:0]
	switch {
	case median > g.sufferance():
		if g.delay == 0 {
			g.delay = firstDelay / 2
		}
		g.delay = min(2*g.delay, longestDelay)
		g.backoffs++
	default:
		// As long as there is another reason to spare the server, no further than what that one asks for.
		g.delay /= 2
		if len(g.strained) > 0 {
			g.delay = max(g.delay, strainDelay)
		} else if g.delay < firstDelay/2 {
			g.delay = 0
		}
	}
}

// sufferance is how long a ping may take: a command of ours that is in its way, and as much again.
func (g *Governor) sufferance() time.Duration {
	return 2*g.pace.Slice + 4*g.floor.Trip()
}

// Strain slows everything down while the server has another reason to be spared, such as a fork that
// copies each page that is touched; several reasons may hold at once.
func (g *Governor) Strain(reason string, on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !on {
		delete(g.strained, reason)
		return
	}
	if !g.strained[reason] {
		g.strained[reason] = true
		g.backoffs++
	}
	g.delay = max(g.delay, strainDelay)
}

// Delay is what is added before each command now.
func (g *Governor) Delay() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.delay
}

// Backoffs counts how often the janitor slowed down for others.
func (g *Governor) Backoffs() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.backoffs
}
