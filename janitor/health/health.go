// Package health is the check: what a server says of itself, and what gunicorn's log says of the
// workers, against the policy's alert thresholds. It reads INFO and nothing else of Redis.
package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/probe"
	"redis-janitor/ttlpolicy"
)

// shownCommands bounds the report.
const shownCommands = 50

// Request is everything a check depends on besides its surroundings.
type Request struct {
	Version    string
	Policy     janitor.Policy
	Connection keyspace.Options
	WorkerLog  string // of gunicorn; "": none is looked at
	StateFile  string // where the history is; "": nowhere
}

// Env is what surrounds a check. Tests own all of it.
type Env struct {
	Now     func() time.Time
	Machine probe.Machine
}

// Check reads, remembers and judges. Every failure is in the report.
func Check(ctx context.Context, req Request, env Env) *Report {
	c := &check{req: req, env: env, report: newReport(req.Version, env.Now())}
	started := c.report.StartedAt
	c.report.Policy = janitor.PolicyReport{Name: req.Policy.Name, SHA256: req.Policy.SHA256()}
	c.report.StateFile, c.report.HitRateBelow = req.StateFile, req.Policy.Alerts.HitRateBelow
	err := c.look(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.report.refused(err)
	} else {
		c.report.judge(req.Policy.Alerts)
	}
	c.report.DurationMS = env.Now().Sub(started).Milliseconds()
	return c.report
}

// check is one run.
type check struct {
	req    Request
	env    Env
	report *Report
}

// look fills in all of the report but its verdict.
func (c *check) look(ctx context.Context) error {
	options := c.req.Connection
	options.Mode = keyspace.Reading
	space, err := keyspace.Open(ctx, options)
	if err != nil {
		return err
	}
	for _, d := range space.Down() {
		c.warn(d.Addr, "node_down", "%s", d.Err)
	}
	seen, err := c.observe(ctx, space.Nodes())
	if err := errors.Join(err, space.Close()); err != nil {
		return err
	}
	c.recall(ctx, seen)
	c.countWorkers(ctx)
	return nil
}

// observe asks every server.
func (c *check) observe(ctx context.Context, nodes []*keyspace.Node) ([]observation, error) {
	var seen []observation
	for _, node := range nodes {
		info := node.First()
		reading, err := c.reading(ctx, node.Addr(), info)
		if err != nil {
			return nil, err
		}
		costs, err := node.CommandCosts(ctx)
		switch kind := keyspace.KindOf(err); {
		case kind == keyspace.NoPerm || kind == keyspace.NoCommand || kind == keyspace.Other && err != nil:
			c.warn(node.Addr(), "latency_unknown", "%s does not tell what its commands cost: %v", node.Addr(), err)
		case err != nil:
			return nil, err
		}
		o := observation{addr: node.Addr(), source: reading.Source, used: reading.Used, sample: newSample(c.env.Now().UTC(), info, costs)}
		seen = append(seen, o)
		c.describe(node, info, reading, o.sample)
	}
	return seen, nil
}

func (c *check) reading(ctx context.Context, addr string, info keyspace.Info) (probe.Reading, error) {
	memory := c.req.Policy.Memory
	reading, err := probe.Read(ctx, info, memory.Source, probe.Limit{Bytes: memory.Limit.Bytes, From: memory.Limit.From}, c.env.Machine)
	if err != nil {
		return reading, &memoryError{addr, err}
	}
	if err := memory.TargetFits(reading.Limit); err != nil {
		return reading, fmt.Errorf("%s: %w", addr, err)
	}
	return reading, nil
}

// memoryError reports memory that can't be read or judged.
type memoryError struct {
	addr string
	err  error
}

func (e *memoryError) Error() string { return fmt.Sprintf("memory of %s: %v", e.addr, e.err) }
func (e *memoryError) Unwrap() error { return e.err }

func (c *check) describe(node *keyspace.Node, info keyspace.Info, reading probe.Reading, s sample) {
	n := NodeReport{
		Addr: node.Addr(), RunID: s.RunID, Server: info.Server(), Role: info.Text("role"), UptimeS: s.UptimeS,
		Level: c.req.Policy.Memory.Levels.LevelOf(reading.Ratio()),
		Memory: MemoryReport{
			Source: reading.Source, UsedBytes: reading.Used, LimitBytes: reading.Limit, Ratio: reading.Ratio(),
			RSSBytes: reading.RSS, MaxMemory: reading.MaxMemory, Thresholds: c.thresholds(reading),
		},
	}
	total := func(name string) *int64 { return known(s.counter(name)) }
	n.Totals = TotalsReport{
		Hits: total(hitsField), Misses: total(missesField), EvictedKeys: total(evictedField), ExpiredKeys: total(expiredField),
		RejectedConnections: total(rejectedField), CommandErrors: total(errorsField),
	}
	c.report.Nodes = append(c.report.Nodes, n)
	if info.Replica() {
		c.warn(n.Addr, "replica", "%s is a replica: its hit rate and commands are those of its own readers", n.Addr)
	}
	if reading.Elsewhere(n.Addr) {
		c.warn(n.Addr, "memory_of_this_machine", "memory source %s tells of the machine this check runs on, which need not be %s's", reading.Source, n.Addr)
	}
	if warning := c.req.Policy.Alerts.MemoryWarning; n.Memory.neverReaches(warning) {
		c.warn(n.Addr, "level_unreachable", "maxmemory of %s is %s, so its memory can never come above %.6g%% of %s, and no alert will tell that it is full; set memory.limit to maxmemory (--memory-limit maxmemory)",
			n.Addr, ttlpolicy.FormatSize(reading.MaxMemory), 100*warning, ttlpolicy.FormatSize(reading.Limit))
	}
}

func (c *check) thresholds(r probe.Reading) []ThresholdReport {
	alerts, levels := c.req.Policy.Alerts, c.req.Policy.Memory.Levels
	list := []ThresholdReport{{Name: "alert_warning", Ratio: alerts.MemoryWarning}, {Name: "alert_critical", Ratio: alerts.MemoryCritical}}
	for _, level := range ttlpolicy.Levels() {
		list = append(list, ThresholdReport{Name: level.String(), Ratio: levels.Of(level)})
	}
	slices.SortStableFunc(list, func(a, b ThresholdReport) int { return cmp.Compare(a.Ratio, b.Ratio) })
	for i := range list {
		list[i].Bytes = int64(list[i].Ratio * float64(r.Limit))
		list[i].Reached = r.Used >= list[i].Bytes
	}
	return list
}

// recall compares with what earlier checks saw. A history that can't be kept costs the trend, not the check.
func (c *check) recall(ctx context.Context, seen []observation) {
	if c.req.StateFile == "" {
		c.warn("", "no_state", "there is no place for a history, so hit rate, rates and trend are unknown: give one with --state FILE")
		return
	}
	before, after, corrupt, err := remember(ctx, c.req.StateFile, seen)
	if corrupt != "" {
		c.warn("", "state_corrupt", "%s", corrupt)
	}
	if err != nil {
		c.warn("", "state_unwritten", "the history cannot be kept, so hit rate, rates and trend are unknown: %v; give another place with --state FILE", err)
		return
	}
	for i := range seen {
		n := &c.report.Nodes[i]
		n.Restarts = len(after[i].Restarts)
		n.Memory.foresee(after[i].Points, seen[i].sample.At)
		if !before[i].known() {
			c.warn(n.Addr, "no_history", "this is the first check of %s that is remembered: hit rate and rates come with the next one, a trend after %s", n.Addr, about(shortestTrend))
			continue
		}
		since, ok := between(before[i].Last, seen[i].sample)
		if !ok {
			c.warn(n.Addr, "no_history", "what %s counted since the last check cannot be told: the clock went back, or another server answers at its address now", n.Addr)
			continue
		}
		n.Interval = since.report()
	}
}

// foresee draws the trend.
func (m *MemoryReport) foresee(points []point, now time.Time) {
	perSecond, over, ok := slope(points)
	if !ok || over < shortestTrend {
		return
	}
	m.Trend = &TrendReport{BytesPerHour: 3600 * perSecond, OverS: over.Seconds(), Readings: len(points)}
	for i := range m.Thresholds {
		t := &m.Thresholds[i]
		if m.neverReaches(t.Ratio) {
			continue
		}
		if in, ok := reaches(m.UsedBytes, t.Bytes, perSecond); ok {
			seconds, at := int64(in.Seconds()), now.Add(in).Truncate(time.Second)
			t.InS, t.At = &seconds, &at
		}
	}
}

func (i interval) report() *IntervalReport {
	grown := func(name string) *int64 { return known(i.counted(name)) }
	r := &IntervalReport{
		Since: i.now.At.Add(-i.span), Seconds: i.span.Seconds(),
		Hits: known(i.hits()), Misses: grown(missesField), EvictedKeys: grown(evictedField), ExpiredKeys: grown(expiredField),
		RejectedConnections: grown(rejectedField), CommandErrors: grown(errorsField), Errors: i.errors(), Commands: i.commands(),
	}
	if i.change == restarted {
		r.Seconds = float64(*i.now.UptimeS)
		r.Since = i.now.At.Add(-time.Duration(*i.now.UptimeS) * time.Second)
	}
	if r.Hits != nil && r.Misses != nil && *r.Hits+*r.Misses >= fewLookups {
		rate := float64(*r.Hits) / float64(*r.Hits+*r.Misses)
		r.HitRate = &rate
	}
	var micros float64
	for _, command := range r.Commands {
		r.Calls += command.Calls
		micros += command.totalUS()
	}
	if r.Calls > 0 {
		mean := micros / float64(r.Calls)
		r.MeanUS = &mean
	}
	r.Commands = r.Commands[:min(len(r.Commands), shownCommands)]
	return r
}

// countWorkers reads gunicorn's log. One that can't be read is unknown, not quiet.
func (c *check) countWorkers(ctx context.Context) {
	if c.req.WorkerLog == "" {
		return
	}
	c.report.Workers = &WorkersReport{Log: c.req.WorkerLog, Over: c.req.Policy.Alerts.WorkerRestartsPerHour}
	now := c.env.Now()
	boots, err := countBoots(ctx, c.req.WorkerLog, now.Add(-time.Hour), now)
	if err != nil {
		c.report.Workers.Problem = err.Error()
		return
	}
	c.report.Workers.Restarts = &boots
}

func (c *check) warn(node, code, format string, args ...any) {
	c.report.Warnings = append(c.report.Warnings, janitor.Warning{Code: code, Message: fmt.Sprintf(format, args...), Node: node})
}

// refused says why nothing can be told.
func (r *Report) refused(err error) {
	var address *keyspace.BadAddress
	var field *janitor.FieldError
	var memory *memoryError
	var server *keyspace.Error
	var signal *janitor.Signal
	switch {
	case errors.As(err, &address):
		r.refuse(string(janitor.Usage), err.Error(), "")
	case errors.As(err, &field), errors.Is(err, probe.ErrLimit):
		r.refuse(string(janitor.BadPolicy), err.Error(), "")
	case errors.As(err, &memory):
		r.refuse("memory", err.Error(), "choose another source with --memory-source: redis, rss, host or cgroup")
	case errors.As(err, &signal):
		r.refuse(string(janitor.Interrupted), err.Error(), "")
	case errors.As(err, &server):
		r.refuse(string(server.Kind), server.Error(), server.Hint)
	default:
		r.refuse(string(janitor.Internal), err.Error(), "")
	}
}

func known(n int64, ok bool) *int64 {
	if !ok {
		return nil
	}
	return &n
}
