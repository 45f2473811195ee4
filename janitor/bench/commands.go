package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/pace"
	"redis-janitor/ttlpolicy"
)

// sliceOf is how long one command may hold the server at a pace.
func sliceOf(name string) time.Duration {
	p, err := pace.For(name, ttlpolicy.Force)
	if err != nil {
		panic(failure{err})
	}
	return p.Slice
}

// slowLogLength is how many commands the slow log keeps: more than a run has.
const slowLogLength = 1 << 20

// holding is how long the janitor's commands that walk and delete have held the server, each by itself.
type holding struct {
	commands int64
	long     []time.Duration // of those that the slow log kept
}

// share is which part of the commands took longer than a slice.
func (h holding) share(slice time.Duration) string {
	n := over(h.long, slice)
	return fmt.Sprintf("%.2f %% (%d of %d)", 100*float64(n)/float64(max(h.commands, 1)), n, h.commands)
}

// working are the commands that walk and delete. Scripts run others in turn, whose time is in theirs.
func working() []string { return []string{"scan", "evalsha"} }

// heldBy reads what a run has left in the statistics and the slow log of a server that was started for it.
func (s *server) heldBy(ctx context.Context) (holding, error) {
	var h holding
	calls, _ := s.ran(ctx)
	for _, name := range working() {
		h.commands += calls[name]
	}
	log, err := s.client.SlowLogGet(ctx, slowLogLength).Result()
	if err != nil {
		return h, fmt.Errorf("read the slow log: %w", err)
	}
	for _, entry := range log {
		for _, name := range working() {
			if entry.ClientName == "redis-janitor" && len(entry.Args) > 0 && strings.EqualFold(entry.Args[0], name) {
				h.long = append(h.long, entry.Duration)
			}
		}
	}
	return h, nil
}

// spent is how often a command ran, and how long in all.
type spent struct {
	calls int64
	time  time.Duration
}

// perCall is in microseconds.
func (s spent) perCall() float64 { return s.time.Seconds() * 1e6 / float64(max(s.calls, 1)) }

// spentOn reads what a command has taken since the statistics were reset.
func (s *server) spentOn(ctx context.Context, command string) (spent, error) {
	text, err := s.client.Info(ctx, "commandstats").Result()
	if err != nil {
		return spent{}, fmt.Errorf("read commandstats: %w", err)
	}
	return spentOn(keyspace.ParseInfo(text), command)
}

// spentOn reads a command's line of INFO commandstats: "calls=2,usec=3,usec_per_call=1.50,…". None is of no calls.
func spentOn(info keyspace.Info, command string) (spent, error) {
	var s spent
	text := info.Text("cmdstat_" + command)
	if text == "" {
		return s, nil
	}
	var micros int64
	if n, err := fmt.Sscanf(text, "calls=%d,usec=%d,", &s.calls, &micros); n < 2 {
		return s, fmt.Errorf("read commandstats of %s: %q: %w", command, text, err)
	}
	s.time = time.Duration(micros) * time.Microsecond
	return s, nil
}
