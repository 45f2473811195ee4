// Package pace keeps the janitor's commands short: how long one may hold the server, and how many
// keys fit into that time.
package pace

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"redis-janitor/ttlpolicy"
)

// Pace is how much of the server's time one command may take.
type Pace struct {
	Name  string
	Slice time.Duration
	// Keys and Bytes bound one batch. A string is freed inline whatever its size: 10 MB take about
	// a millisecond.
	Keys  int
	Bytes int64
	// Page bounds the COUNT of a SCAN.
	Page int
	// Ahead is how many pages, and how many batches, may wait between a scan and the deletions.
	Ahead int
	// AtOnce bounds the costly commands that are under way together, 0 for as many as there are
	// connections: each may have to be waited for.
	AtOnce int
	// Rest is how long the server is left alone after a command, in shares of the time it took.
	Rest float64

	// The bounds where the server is close, see At.
	closeKeys, closePage, closeAtOnce int
}

// For finds a pace by name. "auto" follows the level: the higher the pressure, the less gentle.
func For(name string, level ttlpolicy.Level) (Pace, error) {
	if name == "auto" {
		switch level {
		case ttlpolicy.Critical:
			name = "fast"
		case ttlpolicy.Force:
			name = "balanced"
		default:
			name = "gentle"
		}
	}
	switch name {
	case "gentle":
		return Pace{Name: name, Slice: 500 * time.Microsecond, Keys: 100, Bytes: 2 << 20, Page: 300, Ahead: 2, AtOnce: 1, Rest: 2,
			closeKeys: 25, closePage: 60, closeAtOnce: 1}, nil
	case "balanced":
		return Pace{Name: name, Slice: time.Millisecond, Keys: 400, Bytes: 4 << 20, Page: 1000, Ahead: 2, AtOnce: 3, Rest: 0.5,
			closeKeys: 200, closePage: 300, closeAtOnce: 2}, nil
	case "fast":
		return Pace{Name: name, Slice: 5 * time.Millisecond, Keys: 500, Bytes: 16 << 20, Page: 1000, Ahead: 2,
			closeKeys: 500, closePage: 500}, nil
	}
	return Pace{}, fmt.Errorf("pace %q is unknown; use auto, gentle, balanced or fast", name)
}

// inFront is how many slices a command may take where others of ours may have been in front of it: what takes longer
// is too large by itself.
const inFront = 3

// closeBy is the round trip up to which a server is close: on this machine, or in the same rack.
const closeBy = 250 * time.Microsecond

// At fits a pace to the shortest round trip seen; 0 is for one that isn't known.
//
// Far off, a command's way costs more than its work, so it should carry much, and of several under way most are
// not at the server. Close by a command costs little beside its work, and others wait less for a small one.
// What is more, a scan has just pulled a page's keys into the server's processor cache: deleting them while they are
// there costs less, so pages are small and none waits behind others.
func (p Pace) At(trip time.Duration) Pace {
	if trip > 0 && trip <= closeBy {
		p.Keys, p.Page, p.AtOnce, p.Ahead = p.closeKeys, p.closePage, p.closeAtOnce, 0
	}
	return p
}

// RestAfter is how long to wait after a command that was back after trip. From a server that is far away the next
// one's way is a part of the rest, as far as none of the others that are under way is there meanwhile.
func (p Pace) RestAfter(trip time.Duration, floor *Floor) time.Duration {
	rest := time.Duration(float64(floor.Held(trip)) * p.Rest)
	if way := floor.Trip(); way > closeBy {
		rest -= way / time.Duration(max(p.AtOnce, 1))
	}
	return max(rest, 0)
}

// Sizer finds how many units (keys, COUNT) one command may take on, from the time that earlier
// ones held the server. It is safe for concurrent use.
type Sizer struct {
	mu       sync.Mutex
	slice    time.Duration
	low, top float64
	size     float64
	floor    *Floor
	// recent are what the last commands took for a unit, in ns. Where several are under way a command may have
	// waited for others of ours, so the least of a few tells what it took itself.
	recent []float64
	few    int
}

// NewSizer begins small, since nothing is known yet of the keys or the server.
func NewSizer(p Pace, low, top int, floor *Floor) *Sizer {
	few := 1
	if p.AtOnce != 1 {
		few = 4
	}
	return &Sizer{slice: p.Slice, low: float64(low), top: float64(top), size: float64(low), floor: floor, few: few}
}

// Size is how many units the next command may take on.
func (s *Sizer) Size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.size)
}

// Took tells how long the round trip of a command with n units was.
func (s *Sizer) Took(n int, trip time.Duration) {
	held := s.floor.Held(trip)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recent = append(s.recent, float64(held)/float64(max(n, 1))); len(s.recent) > s.few {
		s.recent = s.recent[1:]
	}
	least := time.Duration(slices.Min(s.recent) * float64(n))
	switch {
	case held > inFront*s.slice || least > s.slice && len(s.recent) == s.few:
		s.size = max(s.low, min(s.size, float64(n))*0.7)
		s.recent = s.recent[:0]
	case held <= s.slice && least < s.slice/2 && float64(n) >= s.size*0.9:
		// Only a full command says that a larger one would fit.
		s.size = min(s.top, s.size*1.5)
	}
}

// Shrink makes commands smaller at once, where a reply was larger than wanted.
func (s *Sizer) Shrink() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = max(1, s.size/4)
}

// Floor is what a round trip costs before the server works on it. It is safe for concurrent use.
type Floor struct {
	mu       sync.Mutex
	shortest time.Duration
	usual    time.Duration
}

// Began tells of round trips from before there was any work, at least one: their median is the usual one. Later ones
// would have waited for the janitor's own commands.
func (f *Floor) Began(trips []time.Duration) {
	sorted := slices.Clone(trips)
	slices.Sort(sorted)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shortest, f.usual = sorted[0], sorted[len(sorted)/2]
}

// Saw tells of one round trip.
func (f *Floor) Saw(trip time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shortest == 0 || trip < f.shortest {
		f.shortest = trip
	}
}

// Trip is the shortest round trip, 0 while nothing was seen.
func (f *Floor) Trip() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shortest
}

// mostUneven bounds what may pass for a network's unevenness: a command may hold the server unseen for as long.
const mostUneven = 500 * time.Microsecond

// Held is how long a command held the server that was back after trip: what lies above a usual round trip, since a
// network's unevenness is not the server's. The first round trips may have been slow for others' sake, so no more than
// twice the shortest passes for usual.
func (f *Floor) Held(trip time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	usual := min(f.usual, 2*f.shortest, f.shortest+mostUneven)
	return max(trip-max(f.shortest, usual), 0)
}
