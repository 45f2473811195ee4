package main

import (
	"context"
	"fmt"
)

// tenfold is how much larger the larger keyspace is.
const tenfold = 10

// growing is what a tenfold keyspace costs more.
type growing struct {
	sizes []*size
}

// size is one of the two keyspaces.
type size struct {
	server    *server
	held      contents
	plans     []float64 // seconds
	commands  int64     // of the last plan
	planPeak  int64     // bytes, the highest
	execute   float64   // seconds
	evictPeak int64
}

func (b *bench) growing(ctx context.Context) (*growing, error) {
	g := &growing{}
	for _, n := range []int{b.keys, b.keys * tenfold} {
		s := &size{server: startServer()}
		defer s.server.close()
		var err error
		if s.held, err = fillCombot(ctx, s.server.Addr, n); err != nil {
			return nil, err
		}
		b.log("%d keys written", s.held.Keys)
		g.sizes = append(g.sizes, s)
	}
	for round := range b.rounds {
		for _, s := range rotated(g.sizes, round) {
			s.server.ResetStats()
			used, out, err := measured(ctx, b.janitor(s.server.Addr, "plan", "--policy", b.policy, "--level", "force", "--target", "none")...)
			if err == nil {
				_, err = readReport(out, "planned")
			}
			if err != nil {
				return nil, err
			}
			s.plans = append(s.plans, used.Wall.Seconds())
			s.planPeak = max(s.planPeak, used.PeakRSS)
			_, s.commands = s.server.ran(ctx)
			b.log("round %d: plan over %d keys: %.2fs, peak %d MB", round+1, s.held.Keys, used.Wall.Seconds(), used.PeakRSS>>20)
		}
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

func (g *growing) section() section {
	var rows [][]string
	var goals []goal
	for _, s := range g.sizes {
		rows = append(rows, []string{fmt.Sprint(s.held.Keys), fmt.Sprint(s.commands), seconds2(spreadOf(s.plans)), megabytes(float64(s.planPeak)), fmt.Sprintf("%.1f", s.execute), megabytes(float64(s.evictPeak))})
		goals = append(goals, goal{fmt.Sprintf("peak memory of `execute --pace fast` over %d keys, MB", s.held.Keys), "< 40", megabytes(float64(s.evictPeak)), s.evictPeak < 40<<20})
	}
	small, large := g.sizes[0], g.sizes[1]
	ratio := spreadOf(ratios(large.plans, small.plans))
	goals = append(goals,
		atMost("time of `plan` over ten times the keys, in times of that over the smaller keyspace (no longer, within noise)", ratio, 1.1),
		goal{"time of `plan` over the larger keyspace, s", "< 1", seconds2(spreadOf(large.plans)), spreadOf(large.plans).Median < 1})
	return section{name: "plan", title: "Ten times the keys", goals: goals,
		text: "`plan` samples, so its work must not grow with the keyspace; `execute` walks, so its memory must not. Commands are those\n" +
			"that the server ran for a plan: where as many take longer over more keys, the likeliest reason is that a key\n" +
			"drawn at random is less often in a processor's cache.\n\n" +
			table([]string{"keys", "commands", "`plan`, s", "peak, MB", "`execute --pace fast`, s", "peak, MB"}, rows)}
}

func megabytes(bytes float64) string { return fmt.Sprintf("%.0f", bytes/(1<<20)) }
