package main

import (
	"context"
	"fmt"
	"time"
)

// tenfold is how much larger the larger keyspace is.
const tenfold = 10

// plansBeside is how many plans, one after the other, the foreground client is watched beside: one is over too soon for
// a percentile.
const plansBeside = 10

// drawing are the commands that draw a sample.
func drawing() []string { return []string{"randomkey", "pttl", "memory|usage"} }

// growing is what a tenfold keyspace costs more.
type growing struct {
	sizes []*size
	// idle and beside plans are what the foreground client saw on the larger keyspace, all rounds together.
	idle, beside []time.Duration
}

// size is one of the two keyspaces.
type size struct {
	server    *server
	held      contents
	plans     []float64          // seconds
	drawn     map[string][]spent // by drawing, a plan each
	warm      []spent            // on PTTL of one key over and over
	commands  int64              // of the last plan
	planPeak  int64              // bytes, the highest
	execute   float64            // seconds
	evictPeak int64
}

func (b *bench) growing(ctx context.Context) (*growing, error) {
	g := &growing{}
	for _, n := range []int{b.keys, b.keys * tenfold} {
		s := &size{server: startServer(), drawn: map[string][]spent{}}
		defer s.server.close()
		var err error
		if s.held, err = b.fill(ctx, s.server, n); err != nil {
			return nil, err
		}
		// Started again, since a table that has grown is still half moved into a larger one: every look into it moves
		// a part of the rest on, which is nobody's work here.
		if err := s.server.restore(ctx); err != nil {
			return nil, err
		}
		g.sizes = append(g.sizes, s)
	}
	for round := range b.rounds {
		for _, s := range rotated(g.sizes, round) {
			if err := b.planAlone(ctx, s); err != nil {
				return nil, err
			}
			b.log("round %d: plan over %d keys: %.2fs, peak %d MB", round+1, s.held.Keys, s.plans[round], s.planPeak>>20)
		}
		if b.noLoad {
			continue
		}
		large := g.sizes[1].server
		idle, err := watchIdle(ctx, large)
		if err != nil {
			return nil, err
		}
		beside, err := b.planBeside(ctx, large)
		if err != nil {
			return nil, err
		}
		g.idle, g.beside = append(g.idle, idle...), append(g.beside, beside...)
		b.log("round %d: idle p99 %s, beside plan %s", round+1, percentile(idle, 990), percentile(beside, 990))
	}
	fast, err := chosenWays("fast")
	if err != nil {
		return nil, err
	}
	for _, s := range g.sizes {
		used, _, err := measured(ctx, fast[0].command(b, s.server.Addr)...)
		if err != nil {
			return nil, err
		}
		s.execute, s.evictPeak = used.Wall.Seconds(), used.PeakRSS
		b.log("execute over %d keys: %.2fs, peak %d MB", s.held.Keys, used.Wall.Seconds(), used.PeakRSS>>20)
	}
	return g, nil
}

func (b *bench) plan(ctx context.Context, s *server) (usage, error) {
	used, out, err := measured(ctx, b.janitor(s.Addr, "plan", "--policy", b.policy, "--level", "force", "--target", "none")...)
	if err == nil {
		_, err = readReport(out, "planned")
	}
	return used, err
}

// planAlone plans while nobody else is at work.
func (b *bench) planAlone(ctx context.Context, s *size) error {
	s.server.ResetStats()
	used, err := b.plan(ctx, s.server)
	if err != nil {
		return err
	}
	s.plans = append(s.plans, used.Wall.Seconds())
	s.planPeak = max(s.planPeak, used.PeakRSS)
	_, s.commands = s.server.ran(ctx)
	for _, name := range drawing() {
		took, err := s.server.spentOn(ctx, name)
		if err != nil {
			return err
		}
		s.drawn[name] = append(s.drawn[name], took)
	}
	took, err := s.server.askOneKey(ctx)
	s.warm = append(s.warm, took)
	return err
}

// askOneKey asks for the TTL of one and the same key: what PTTL takes where nothing has to be fetched from memory.
func (s *server) askOneKey(ctx context.Context) (spent, error) {
	s.ResetStats()
	b, err := dialBulk(ctx, s.Addr)
	if err != nil {
		return spent{}, err
	}
	for range 20_000 {
		b.command(2)
		b.text("PTTL")
		b.text(othersPrefix + "0")
	}
	if err := b.close(ctx); err != nil {
		return spent{}, err
	}
	return s.spentOn(ctx, "pttl")
}

// planBeside plans beside a foreground client.
func (b *bench) planBeside(ctx context.Context, s *server) ([]time.Duration, error) {
	l, err := startLoad(ctx, s.Addr)
	if err != nil {
		return nil, err
	}
	defer l.abandon()
	from := time.Now()
	for range plansBeside {
		if _, err := b.plan(ctx, s); err != nil {
			return nil, err
		}
	}
	return l.stop(from, time.Now())
}

func (g *growing) section() section {
	var rows, calls [][]string
	var goals []goal
	for _, s := range g.sizes {
		rows = append(rows, []string{fmt.Sprint(s.held.Keys), fmt.Sprint(s.commands), seconds2(spreadOf(s.plans)), megabytes(float64(s.planPeak)), fmt.Sprintf("%.1f", s.execute), megabytes(float64(s.evictPeak))})
		calls = append(calls, s.calls())
		goals = append(goals, goal{fmt.Sprintf("peak memory of `execute --pace fast` over %d keys, MB", s.held.Keys), "< 40", megabytes(float64(s.evictPeak)), s.evictPeak < 40<<20})
	}
	small, large := g.sizes[0], g.sizes[1]
	ratio := spreadOf(ratios(large.plans, small.plans))
	goals = append(goals,
		atMost("time of `plan` over ten times the keys, in times of that over the smaller keyspace (no longer, within noise)", ratio, 1.1),
		goal{"time of `plan` over the larger keyspace, s", "< 1", seconds2(spreadOf(large.plans)), spreadOf(large.plans).Median < 1})
	text := "`plan` samples, so its work must not grow with the keyspace; `execute` walks, so its memory must not. Commands are all that\n" +
		"the server ran for a plan.\n\n" +
		table([]string{"keys", "commands", "`plan`, s", "peak, MB", "`execute --pace fast`, s", "peak, MB"}, rows) + `
What drawing the sample takes in the server, by its commandstats: microseconds a call (medians of the rounds) and the calls
of a plan, and seconds for all calls of a plan beside the whole plan's. The last column is PTTL of one and the same key.

` + table([]string{"keys", "RANDOMKEY, µs", "PTTL, µs", "MEMORY USAGE, µs", "all of these, s", "`plan`, s", "PTTL of one key, µs"}, calls) + `
Where the calls are as many and each takes longer over more keys, while one key's PTTL takes no longer, it is memory that
takes the time: to be fair, RANDOMKEY collects 15 entries of the table for each key that it draws, and they lie anywhere. The
more keys there are, the fewer of these entries are in a processor's cache. PTTL and MEMORY USAGE look up keys that were
drawn so.
`
	if len(g.idle) > 0 {
		text += fmt.Sprintf("\nA foreground client on the larger keyspace, as in the first section, beside %d plans one after the other in each round (milliseconds):\n\n", plansBeside) +
			table(append([]string{"beside"}, latencyHeader()...), [][]string{
				append([]string{"nobody else (idle)"}, latencyCells(g.idle)...), append([]string{"`plan`"}, latencyCells(g.beside)...)})
	}
	return section{name: "plan", title: "Ten times the keys", goals: goals, text: text}
}

// calls is a row of what drawing samples took.
func (s *size) calls() []string {
	row := []string{fmt.Sprint(s.held.Keys)}
	all := make([]float64, len(s.plans))
	for _, name := range drawing() {
		took := s.drawn[name]
		for i := range took {
			all[i] += took[i].time.Seconds()
		}
		row = append(row, fmt.Sprintf("%.2f × %d", spreadOf(column(took, spent.perCall)).Median, took[len(took)-1].calls))
	}
	return append(row, fmt.Sprintf("%.3f", spreadOf(all).Median), fmt.Sprintf("%.3f", spreadOf(s.plans).Median),
		fmt.Sprintf("%.2f", spreadOf(column(s.warm, spent.perCall)).Median))
}

func megabytes(bytes float64) string { return fmt.Sprintf("%.0f", bytes/(1<<20)) }
