package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// rounds are the runs of one way, in the order of the rounds.
type rounds struct {
	quiet  []cleared // nobody else at work
	loaded []cleared // beside the foreground client
	holds  []holding // of a pace: its commands while nobody else was at work
}

func (r rounds) walls() []float64 {
	return column(r.quiet, func(c cleared) float64 { return c.Wall.Seconds() })
}
func (r rounds) cpus() []float64 {
	return column(r.quiet, func(c cleared) float64 { return c.ServerCPU.Seconds() })
}
func (r rounds) peaks() []float64 {
	return column(r.quiet, func(c cleared) float64 { return float64(c.PeakRSS) / (1 << 20) })
}

func column[T any](runs []T, of func(T) float64) []float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	return values
}

// clearing is what the scenario found.
type clearing struct {
	held contents
	ways []way
	runs map[string]*rounds
	idle [][]time.Duration // what the foreground client saw while nothing else happened, a round
}

// idleFor is how long the foreground client is watched alone in each round.
const idleFor = 10 * time.Second

func (b *bench) clearing(ctx context.Context) (*clearing, error) {
	chosen, err := chosenWays(b.ways)
	if err != nil {
		return nil, err
	}
	s := startServer()
	defer s.close()
	held, err := b.fill(ctx, s, b.keys)
	if err != nil {
		return nil, err
	}
	c := &clearing{held: held, ways: chosen, runs: map[string]*rounds{}}
	for _, w := range chosen {
		c.runs[w.name] = &rounds{}
	}
	for round := range b.rounds {
		for _, w := range rotated(chosen, round) {
			run, err := b.clear(ctx, s, held, w, "", false)
			if err != nil {
				return nil, err
			}
			c.runs[w.name].quiet = append(c.runs[w.name].quiet, run)
			if isPace(w.name) {
				h, err := s.heldBy(ctx)
				if err != nil {
					return nil, err
				}
				c.runs[w.name].holds = append(c.runs[w.name].holds, h)
			}
			b.log("round %d, %s: %.2fs, server %.2fs, peak %d MB", round+1, w.name, run.Wall.Seconds(), run.ServerCPU.Seconds(), run.PeakRSS>>20)
		}
		if b.noLoad {
			continue
		}
		idle, err := b.idle(ctx, s)
		if err != nil {
			return nil, err
		}
		c.idle = append(c.idle, idle)
		b.log("round %d, idle: p99 %s, worst %s", round+1, percentile(idle, 990), percentile(idle, 1000))
		for _, w := range rotated(chosen, round) {
			run, err := b.clear(ctx, s, held, w, "", true)
			if err != nil {
				return nil, err
			}
			c.runs[w.name].loaded = append(c.runs[w.name].loaded, run)
			b.log("round %d, %s beside the foreground: %.2fs, p99 %s, worst %s", round+1, w.name, run.Wall.Seconds(),
				percentile(run.Latencies, 990), percentile(run.Latencies, 1000))
		}
	}
	return c, nil
}

// fill writes a keyspace and keeps it.
func (b *bench) fill(ctx context.Context, s *server, n int) (contents, error) {
	start := time.Now()
	held, err := fillCombot(ctx, s.Addr, n)
	if err == nil {
		err = s.save(ctx)
	}
	if err != nil {
		return held, fmt.Errorf("fill a keyspace: %w", err)
	}
	b.log("%d keys written and saved in %.0fs", held.Keys, time.Since(start).Seconds())
	return held, nil
}

// idle watches the foreground client alone on the full keyspace.
func (b *bench) idle(ctx context.Context, s *server) ([]time.Duration, error) {
	if err := s.restore(ctx); err != nil {
		return nil, err
	}
	return watchIdle(ctx, s)
}

// watchIdle watches it on the keyspace as it is.
func watchIdle(ctx context.Context, s *server) ([]time.Duration, error) {
	l, err := startLoad(ctx, s.Addr)
	if err != nil {
		return nil, err
	}
	defer l.abandon()
	from := time.Now()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(idleFor):
	}
	return l.stop(from, time.Now())
}

// isPace tells the janitor's own ways from the others'.
func isPace(name string) bool { return name == "gentle" || name == "balanced" || name == "fast" }

func (c *clearing) section() section {
	text := fmt.Sprintf(`%d keys: %d ML results, %d sessions, and what else lives there. All results and the %d old sessions are to go, %.0f %% of all
keys; that so many of each family are gone, and nothing else, is checked after every run. Each run begins with the same snapshot on a fresh server.

Alone on the server (medians; ratios are of the same round, their median and range over the rounds):

`, c.held.Keys, c.held.Results, c.held.Sessions, c.held.OldSessions, 100*float64(c.held.due())/float64(c.held.Keys))
	text += c.quietTable()
	if holds := c.holdsTable(); holds != "" {
		text += "\n" + `How long single commands of these runs held the server, those that walk and those that delete, by the server's slow log and
commandstats (all rounds together). By the server's clock: what the kernel gave to other processes meanwhile is in it.

` + holds
	}
	var goals []goal
	if len(c.idle) > 0 {
		text += fmt.Sprintf("\nBeside a foreground client that reads and writes other keys at %d requests a second, whatever comes back (each latency is\n"+
			"from the moment at which the request was to be sent; milliseconds, all rounds together):\n\n", rate)
		text += c.loadedTable()
	}
	goals = append(goals, c.speedGoals()...)
	goals = append(goals, c.holdsGoals()...)
	goals = append(goals, c.gentleGoals()...)
	return section{name: "clear", title: "Clearing a keyspace", text: text, goals: goals}
}

func (c *clearing) quietTable() string {
	var rows [][]string
	floor := c.runs[floorWay]
	for _, w := range c.ways {
		r := c.runs[w.name]
		row := []string{w.label, w.what, seconds2(spreadOf(r.walls())), "", seconds2(spreadOf(r.cpus())), "", fmt.Sprintf("%.0f", spreadOf(r.peaks()).Max)}
		if floor != nil {
			row[3] = spreadOf(ratios(r.walls(), floor.walls())).factor()
			row[5] = spreadOf(ratios(r.cpus(), floor.cpus())).factor()
		}
		rows = append(rows, row)
	}
	return table([]string{"way", "clears", "wall, s", "÷ floor", "server CPU, s", "÷ floor", "client's peak, MB"}, rows)
}

// holdsOf puts all rounds of a pace together.
func (c *clearing) holdsOf(name string) holding {
	var all holding
	for _, h := range c.runs[name].holds {
		all.commands += h.commands
		all.long = append(all.long, h.long...)
	}
	return all
}

func (c *clearing) holdsTable() string {
	var rows [][]string
	for _, w := range c.ways {
		if !isPace(w.name) {
			continue
		}
		h, slice := c.holdsOf(w.name), sliceOf(w.name)
		longest := percentile(h.long, 1000)
		text := milliseconds(longest)
		if longest == 0 { // the slow log has none
			text = "< " + milliseconds(sliceOf("gentle"))
		}
		rows = append(rows, []string{w.label, milliseconds(slice), h.share(slice), text})
	}
	if rows == nil {
		return ""
	}
	return table([]string{"way", "slice, ms", "commands that took longer", "longest, ms"}, rows)
}

func (c *clearing) holdsGoals() []goal {
	var goals []goal
	for _, w := range c.ways {
		if isPace(w.name) {
			h, slice := c.holdsOf(w.name), sliceOf(w.name)
			goals = append(goals, goal{fmt.Sprintf("`%s`: commands of longer than the pace's slice, %s", w.name, slice), "none", h.share(slice), over(h.long, slice) == 0})
		}
	}
	return goals
}

func (c *clearing) loadedTable() string {
	line := func(label string, all []time.Duration, ratio string) []string {
		return append(append([]string{label}, latencyCells(all)...), ratio)
	}
	rows := [][]string{line("nobody else (idle)", slices.Concat(c.idle...), "")}
	for _, w := range c.ways {
		var all []time.Duration
		for _, run := range c.runs[w.name].loaded {
			all = append(all, run.Latencies...)
		}
		rows = append(rows, line(w.label, all, spreadOf(c.tails(w.name)).factor()))
	}
	return table(append(append([]string{"beside"}, latencyHeader()...), "p99 ÷ idle p99"), rows)
}

// tails are the 99th percentiles beside a way in times of the idle ones, a round each.
func (c *clearing) tails(name string) []float64 {
	var loaded, idle []float64
	for round, run := range c.runs[name].loaded {
		loaded = append(loaded, percentile(run.Latencies, 990).Seconds())
		idle = append(idle, percentile(c.idle[round], 990).Seconds())
	}
	return ratios(loaded, idle)
}

func (c *clearing) speedGoals() []goal {
	fast := c.runs["fast"]
	if fast == nil {
		return nil
	}
	var goals []goal
	if floor := c.runs[floorWay]; floor != nil {
		goals = append(goals,
			atMost("`fast`: wall time in times of the floor's", spreadOf(ratios(fast.walls(), floor.walls())), 1.25),
			atMost("`fast`: server CPU in times of the floor's", spreadOf(ratios(fast.cpus(), floor.cpus())), 1.2))
	}
	if smaller := c.runs[smallerWay]; smaller != nil {
		goals = append(goals,
			atMost("`fast`: wall time in times of the script's that checks less", spreadOf(ratios(fast.walls(), smaller.walls())), 1.25),
			atMost("`fast`: server CPU in times of the script's that checks less", spreadOf(ratios(fast.cpus(), smaller.cpus())), 1.2))
	}
	if xargs := c.runs["xargs"]; xargs != nil {
		goals = append(goals, atLeast("`fast`: so many times faster than `redis-cli \\| xargs`, which clears only the results", spreadOf(ratios(xargs.walls(), fast.walls())), 2))
	}
	if notes := c.runs["notes"]; notes != nil {
		goals = append(goals, atLeast("`fast`: so many times faster than the notes' code", spreadOf(ratios(notes.walls(), fast.walls())), 6))
	}
	highest := 0.0
	for _, w := range c.ways {
		if isPace(w.name) {
			highest = max(highest, spreadOf(c.runs[w.name].peaks()).Max)
		}
	}
	return append(goals, goal{"the janitor's peak memory at any pace, MB", "< 40", fmt.Sprintf("%.0f", highest), highest < 40})
}

func (c *clearing) gentleGoals() []goal {
	gentle := c.runs["gentle"]
	if gentle == nil || len(c.idle) == 0 {
		return nil
	}
	idle := slices.Concat(c.idle...)
	var all []time.Duration
	for _, run := range gentle.loaded {
		all = append(all, run.Latencies...)
	}
	share := func(d []time.Duration) float64 { return float64(over(d, tooLong)) / float64(max(len(d), 1)) }
	return []goal{
		atMost("`gentle`: foreground p99 in times of its idle p99", spreadOf(c.tails("gentle")), 2),
		{"`gentle`: requests over 10 ms, a million (idle: " + fmt.Sprintf("%.0f", 1e6*share(idle)) + ")", "no more than idle", fmt.Sprintf("%.0f", 1e6*share(all)), share(all) <= share(idle)},
	}
}
