package health

import (
	"slices"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor"
)

var alerts = janitor.Defaults().Alerts

func number(n int64) *int64 { return &n }

// well is a server with nothing wrong, at 61 % of 1,000,000 bytes.
func well(change func(*NodeReport)) NodeReport {
	rate := 0.94
	n := NodeReport{
		Addr: "10.0.0.1:6379", UptimeS: number(86400),
		Memory: MemoryReport{Source: "redis", UsedBytes: 610_000, LimitBytes: 1_000_000, Ratio: 0.61},
		Interval: &IntervalReport{Seconds: 300, Hits: number(94), Misses: number(6), HitRate: &rate, EvictedKeys: number(0),
			RejectedConnections: number(0), CommandErrors: number(0), Errors: []ErrorReport{}},
	}
	change(&n)
	return n
}

func full(share float64) func(*NodeReport) {
	return func(n *NodeReport) { n.Memory.Ratio = share }
}

func hitRate(hits, misses int64) func(*NodeReport) {
	return func(n *NodeReport) {
		rate := float64(hits) / float64(hits+misses)
		n.Interval.Hits, n.Interval.Misses, n.Interval.HitRate = &hits, &misses, &rate
	}
}

func workers(restarts int) *WorkersReport { return &WorkersReport{Restarts: &restarts, Over: 10} }

func TestEveryThresholdHasTwoSides(t *testing.T) {
	for name, c := range map[string]struct {
		node    func(*NodeReport)
		workers *WorkersReport
		want    State
		reason  string
		text    string
	}{
		"all is well":              {func(*NodeReport) {}, nil, OK, "ok", "memory 61.0% (595.70 KB of 976.56 KB), no trend yet; hit rate 94.0% (100 lookups in 5m)"},
		"memory at the warning":    {full(0.80), nil, OK, "ok", "memory 80.0%"},
		"memory above the warning": {full(0.801), nil, Warning, "memory", "memory 80.1% (595.70 KB of 976.56 KB) is above 80%"},
		"memory at critical":       {full(0.85), nil, Warning, "memory", "is above 80%"},
		"memory above critical":    {full(0.851), nil, Critical, "memory", "is above 85%"},
		"hit rate at 60 %":         {hitRate(60, 40), nil, OK, "ok", "hit rate 60.0%"},
		"hit rate below 60 %":      {hitRate(599, 401), nil, Warning, "hit_rate", "hit rate 59.9% is below 60% (1000 lookups in 5m)"},
		"no lookups":               {hitRate(0, 0), nil, OK, "ok", "hit rate unknown (no lookups in 5m)"},
		"no lookups at once": {func(n *NodeReport) {
			n.Interval.Hits, n.Interval.Misses, n.Interval.Seconds = number(0), number(0), 0.04
		}, nil, OK, "ok",
			"hit rate unknown (no lookups yet)"},
		"too few lookups to tell": {hitRate(0, 9), nil, OK, "ok", "hit rate unknown (9 lookups in 5m)"},
		"just enough to tell":     {hitRate(0, 10), nil, Warning, "hit_rate", "hit rate 0.0%"},
		"a hit rate not told":     {func(n *NodeReport) { n.Interval.Hits = nil }, nil, OK, "ok", "hit rate not told"},
		"connections rejected":    {func(n *NodeReport) { n.Interval.RejectedConnections = number(1) }, nil, Warning, "rejected_connections", "1 connections rejected in 5m"},
		"evictions are news only": {func(n *NodeReport) { n.Interval.EvictedKeys = number(7) }, nil, OK, "ok", "7 keys evicted by Redis itself in 5m"},
		"errors are news only": {func(n *NodeReport) {
			n.Interval.CommandErrors, n.Interval.Errors = number(3), []ErrorReport{{"OOM", 2}, {"ERR", 1}}
		}, nil, OK, "ok", "3 command errors in 5m (OOM 2)"},
		"a restart":                   {func(n *NodeReport) { n.Restarts, n.UptimeS = 1, number(720) }, nil, Warning, "redis_restarts", "restarted or replaced in the last hour, up for 12m"},
		"as many workers as allowed":  {func(*NodeReport) {}, workers(10), OK, "ok", "10 worker restarts in the last hour"},
		"one worker too many":         {func(*NodeReport) {}, workers(11), Warning, "worker_restarts", "11 worker restarts in the last hour are over 10"},
		"workers not known":           {func(*NodeReport) {}, &WorkersReport{Problem: "no such file"}, Unknown, "worker_restarts", "worker restarts unknown: no such file"},
		"wrong outweighs unknown":     {hitRate(0, 10), &WorkersReport{Problem: "no such file"}, Warning, "hit_rate", "hit rate 0.0%"},
		"critical outweighs warnings": {full(0.9), workers(11), Critical, "memory", "are over 10"},
		"without history":             {func(n *NodeReport) { n.Interval = nil }, nil, OK, "ok", "no history yet"},
		"a threshold out of reach": {func(n *NodeReport) { n.Memory.MaxMemory = 500_000 }, nil, OK, "ok",
			"memory 61.0% (595.70 KB of 976.56 KB), never above 80% since maxmemory is 488.28 KB"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Report{Nodes: []NodeReport{well(c.node)}, Workers: c.workers}
			r.judge(alerts)
			if r.Outcome != c.want || r.ExitCode != int(c.want) || r.Reason != c.reason {
				t.Errorf("%s (%s), exit %d: %s", r.Outcome, r.Reason, r.ExitCode, r.Message)
			}
			if !strings.Contains(r.Message, c.text) {
				t.Errorf("%q is missing from %q", c.text, r.Message)
			}
			if (c.want == OK) != (len(r.Alerts) == 0) {
				t.Errorf("alerts %v at %s", r.Alerts, r.Outcome)
			}
			if c.want != OK && (r.Alerts[0].Subject != c.reason || !strings.HasPrefix(r.Message, r.Alerts[0].Message)) {
				t.Errorf("the message %q does not begin with what decided, %+v", r.Message, r.Alerts[0])
			}
		})
	}
}

func TestTheWorstOfSeveralServersDecidesAndTheFullestSpeaksForTheRest(t *testing.T) {
	named := func(addr string, change func(*NodeReport)) NodeReport {
		n := well(change)
		n.Addr = addr
		return n
	}
	r := &Report{Nodes: []NodeReport{named("a:1", full(0.3)), named("b:2", hitRate(1, 99)), named("c:3", full(0.7))}}
	r.judge(alerts)
	want := "b:2 hit rate 1.0% is below 60% (100 lookups in 5m); c:3 memory 70.0% (595.70 KB of 976.56 KB), no trend yet; c:3 hit rate 94.0% (100 lookups in 5m)"
	if r.Message != want || r.Outcome != Warning || r.Alerts[0].Node != "b:2" {
		t.Errorf("%s: %s\nwant %s", r.Outcome, r.Message, want)
	}
}

func TestTheMessageSaysWhereMemoryIsHeading(t *testing.T) {
	const limit = 1 << 30
	for name, c := range map[string]struct {
		perHour float64
		want    string
	}{
		"steady":         {limit / 1000 / 25, "steady"},
		"steady, down":   {-limit / 1000 / 25, "steady"},
		"falling":        {-limit / 100, "falling by 10.24 MB an hour over the last 2h"},
		"rising":         {limit / 100, "rising by 10.24 MB an hour over the last 2h: 80% in 1d6h at this rate"},
		"rising for now": {limit / 23000, "rising by 45.59 KB an hour over the last 2h: 80% in 287d12h at this rate"},
	} {
		m := MemoryReport{UsedBytes: limit / 2, LimitBytes: limit, Ratio: 0.5, Thresholds: []ThresholdReport{
			{Name: "cleanup", Ratio: 0.6, Bytes: limit * 6 / 10}, {Name: "alert_warning", Ratio: 0.8, Bytes: limit * 8 / 10}}}
		m.foresee([]point{{noon.Add(-2 * time.Hour), limit/2 - int64(2*c.perHour)}, {noon, limit / 2}}, noon)
		if got := m.heading(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestStatesAreWordsAndReadBack(t *testing.T) {
	for _, s := range []State{OK, Warning, Critical, Unknown} {
		text, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back State
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%s came back as %s (%v)", s, back, err)
		}
	}
	if err := new(State).UnmarshalText([]byte("fine")); err == nil {
		t.Error("a state that there is not was read")
	}
	order := []State{OK, Unknown, Warning, Critical}
	if !slices.IsSortedFunc(order, func(a, b State) int {
		if b.worse(a) {
			return -1
		}
		return 1
	}) {
		t.Error("the states are not in the order of their weight")
	}
}
