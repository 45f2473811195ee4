package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// In the replay a second stands for a minute, so that an afternoon fits into one.
const minute = time.Second

// The application's lifetimes, as the built-in policy has them, in the replay's time.
const (
	replayResults  = 120 * minute
	replayPages    = 60 * minute
	replaySessions = 30 * minute
)

// The replay's span. What lies before zero is not played but written: the keyspace that these hours have left behind.
const (
	historyFor = 150 * minute
	cleanupAt  = 6 * minute
	playedFor  = cleanupAt + 30*minute
)

// action is what one event of the trace does.
type action uint8

const (
	useResult    action = iota // read an ML result, make and write it where there is none
	usePage                    // the same for a cached page
	useSession                 // read a session; where there is none, somebody has to log in again
	saveSession                // the same, and write it
	useBreakdown               // read a product's breakdown, which another part of the application keeps here for good
)

// event is one thing that the application's users do. Subject numbers the result, the page or the user.
type event struct {
	at      time.Duration
	action  action
	subject uint32
}

// trace draws what users do, the same for everybody who replays it: results by a Zipf law, a rush of them shortly
// before the cleanup; users who come, make some requests, and come back the likelier the shorter they have been gone.
func trace(seed uint64) []event {
	random := rand.New(rand.NewPCG(seed, 1))
	var events []event
	events = append(events, reads(random, useResult, 400, 1.1, 60_000)...)
	events = append(events, reads(random, usePage, 60, 1.2, 4_000)...)
	events = append(events, reads(random, useBreakdown, 40, 1.2, breakdowns)...)
	for user, at := uint32(0), -historyFor; at < playedFor; user++ {
		at += exponential(random, minute/90)
		events = append(events, visits(random, user, at)...)
	}
	slices.SortStableFunc(events, func(a, b event) int { return int(a.at - b.at) })
	return events
}

// reads are so many a minute, of subjects by a Zipf law, and twice as many in the rush.
func reads(random *rand.Rand, what action, each float64, skew float64, subjects uint64) []event {
	law := rand.NewZipf(random, skew, 8, subjects-1)
	var events []event
	for at := -historyFor; ; {
		rate := each
		if at > cleanupAt-20*minute && at < cleanupAt {
			rate *= 2 // the rush
		}
		if at += exponential(random, time.Duration(float64(minute)/rate)); at >= playedFor {
			return events
		}
		events = append(events, event{at, what, uint32(law.Uint64())})
	}
}

// visits are one user's requests, from the first visit on. Django saves a session when it has been changed, which is
// not on every request.
func visits(random *rand.Rand, user uint32, at time.Duration) []event {
	var events []event
	for at < playedFor {
		for first := true; first || random.Float64() < 0.75; first = false {
			what := useSession
			if first && len(events) == 0 || random.Float64() < 0.25 {
				what = saveSession
			}
			if at < playedFor {
				events = append(events, event{at, what, user})
			}
			at += exponential(random, minute/2)
		}
		if random.Float64() > 0.7 {
			break
		}
		// Half of those who come back do so within six minutes, and some after hours.
		at += time.Duration(float64(6*minute) * math.Exp(1.2*random.NormFloat64()))
	}
	return events
}

func exponential(random *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(random.ExpFloat64() * float64(mean))
}

// remembered is a key as history leaves it behind.
type remembered struct {
	expires, used time.Duration
}

// past plays a trace up to zero in memory: which keys there are then, when they expire and when they were last used.
func past(events []event) map[subject]remembered {
	keys := map[subject]remembered{}
	for i := range uint32(breakdowns) {
		keys[subject{useBreakdown, i}] = remembered{used: -historyFor}
	}
	for _, e := range events {
		if e.at >= 0 {
			break
		}
		key := e.key()
		k, there := keys[key]
		if key.lifetime() > 0 && (!there || k.expires <= e.at || e.action == saveSession) {
			k.expires = e.at + key.lifetime()
		}
		k.used = e.at
		keys[key] = k
	}
	for key, k := range keys {
		if key.lifetime() > 0 && k.expires <= 0 {
			delete(keys, key)
		}
	}
	return keys
}

// subject is what a key is about.
type subject struct {
	family action // useResult, usePage or useSession
	number uint32
}

func (e event) key() subject {
	if e.action == saveSession {
		return subject{useSession, e.subject}
	}
	return subject{e.action, e.subject}
}

func (s subject) lifetime() time.Duration {
	switch s.family {
	case useResult:
		return replayResults
	case usePage:
		return replayPages
	case useBreakdown:
		return 0 // for good
	}
	return replaySessions
}

// size is how long the subject's value is, in steps of valueStep.
func (s subject) size() int {
	h := mix(uint64(s.number)<<2 | uint64(s.family))
	low, high := 600, 2400
	switch s.family {
	case usePage:
		low, high = 1200, 4200
	case useSession:
		low, high = 200, 600
	case useBreakdown:
		return breakdownBytes
	}
	length := low + int(h%uint64(high-low+1))
	return (length + valueStep - 1) / valueStep * valueStep
}

// valueStep bounds the number of different values.
const valueStep = 200
