package health

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// fewLookups is how many lookups tell no hit rate: at night one miss more would be an alert.
const fewLookups = 10

// fact is one thing to say, and how bad it is.
type fact struct {
	subject string
	state   State
	node    string
	text    string
}

// judge writes the verdict into the report, from what stands in it: the worst of all facts, with the
// worst ones first.
func (r *Report) judge(alerts janitor.Alerts) {
	facts := make([][]fact, len(r.Nodes))
	fullest := 0
	for i := range r.Nodes {
		facts[i] = r.Nodes[i].facts(alerts)
		if r.Nodes[i].Memory.Ratio > r.Nodes[fullest].Memory.Ratio {
			fullest = i
		}
		r.Level = max(r.Level, r.Nodes[i].Level)
	}
	// Of several servers that are well, the fullest speaks for all.
	said := facts[fullest]
	for i := range facts {
		if i != fullest {
			said = append(said, slices.DeleteFunc(facts[i], func(f fact) bool { return f.state == OK })...)
		}
	}
	for _, w := range r.Warnings {
		if w.Code == "node_down" {
			said = append(said, fact{"node_down", Unknown, "", w.Message})
		}
	}
	if r.Workers != nil {
		said = append(said, r.Workers.fact())
	}
	slices.SortStableFunc(said, func(a, b fact) int {
		switch {
		case a.state.worse(b.state):
			return -1
		case b.state.worse(a.state):
			return 1
		}
		return 0
	})
	texts := make([]string, len(said))
	for i, f := range said {
		texts[i] = f.text
		if f.node != "" && len(r.Nodes) > 1 {
			texts[i] = f.node + " " + f.text
		}
		if f.state != OK {
			r.Alerts = append(r.Alerts, Alert{f.subject, f.state, f.node, f.text})
		}
	}
	r.Outcome, r.Reason = said[0].state, said[0].subject
	if r.Outcome == OK {
		r.Reason = "ok"
	}
	r.ExitCode, r.Message = int(r.Outcome), strings.Join(texts, "; ")
	if r.Outcome != Unknown { // which says itself what is missing
		r.Hint = hint(r.Reason)
	}
}

// hint says what to do about a subject.
func hint(subject string) string {
	switch subject {
	case "memory":
		return "redis-janitor plan shows what execute would evict, and what stands in its way"
	case "hit_rate":
		return "look for a family that is evicted too young (redis-janitor plan), for TTLs that are too short, or a deploy that changed its keys"
	case "rejected_connections":
		return "the server's maxclients is reached: look for a pool that leaks (CLIENT LIST), or raise it"
	case "redis_restarts":
		return "look at Redis' and the system's log: was it killed for its memory?"
	case "worker_restarts":
		return "look in the worker log for what came before: timeouts, signal 9 (out of memory), or max_requests set too low"
	}
	return ""
}

func (n *NodeReport) facts(alerts janitor.Alerts) []fact {
	facts := []fact{n.Memory.fact(alerts)}
	if n.Interval != nil && n.Memory.Trend == nil {
		facts[0].text += ", no trend yet"
	}
	if n.Restarts > 0 {
		text := "Redis was restarted or replaced in the last hour"
		if n.UptimeS != nil {
			text += fmt.Sprintf(", up for %s", about(time.Duration(*n.UptimeS)*time.Second))
		}
		facts = append(facts, fact{"redis_restarts", Warning, "", text})
	}
	if i := n.Interval; i == nil {
		facts = append(facts, fact{"history", OK, "", "no history yet: hit rate and rates come with the next check, a trend after " + about(shortestTrend)})
	} else {
		facts = append(facts, i.facts(alerts)...)
	}
	for i := range facts {
		facts[i].node = n.Addr
	}
	return facts
}

func (m *MemoryReport) fact(alerts janitor.Alerts) fact {
	f := fact{subject: "memory", text: fmt.Sprintf("memory %.1f%% (%s of %s)", 100*m.Ratio, ttlpolicy.FormatSize(m.UsedBytes), ttlpolicy.FormatSize(m.LimitBytes))}
	switch {
	case m.Ratio > alerts.MemoryCritical:
		f.state, f.text = Critical, f.text+fmt.Sprintf(" is above %.6g%%", 100*alerts.MemoryCritical)
	case m.Ratio > alerts.MemoryWarning:
		f.state, f.text = Warning, f.text+fmt.Sprintf(" is above %.6g%%", 100*alerts.MemoryWarning)
	}
	if m.neverReaches(alerts.MemoryWarning) {
		f.text += fmt.Sprintf(", never above %.6g%% since maxmemory is %s", 100*alerts.MemoryWarning, ttlpolicy.FormatSize(m.MaxMemory))
	}
	if m.Trend != nil {
		f.text += ", " + m.heading()
	}
	return f
}

// neverReaches tells whether the server's own maxmemory keeps memory from ever coming above a share of the limit.
func (m *MemoryReport) neverReaches(share float64) bool {
	return m.Source == "redis" && m.MaxMemory > 0 && float64(m.MaxMemory) <= share*float64(m.LimitBytes)
}

// heading says where memory is heading, and when the next alert would come.
func (m *MemoryReport) heading() string {
	// A thousandth of the limit in a day is the noise of clients that come and go.
	perDay := m.Trend.BytesPerHour * 24
	noise := float64(m.LimitBytes) / 1000
	// What a trend is worth depends on how long it was watched.
	rate := fmt.Sprintf("%s an hour over the last %s", ttlpolicy.FormatSize(int64(math.Abs(m.Trend.BytesPerHour))), about(time.Duration(m.Trend.OverS*float64(time.Second))))
	switch {
	case perDay < -noise:
		return "falling by " + rate
	case perDay <= noise:
		return "steady"
	}
	text := "rising by " + rate
	for _, t := range m.Thresholds {
		if strings.HasPrefix(t.Name, "alert_") && t.InS != nil {
			return text + fmt.Sprintf(": %.6g%% in %s at this rate", 100*t.Ratio, about(time.Duration(*t.InS)*time.Second))
		}
	}
	return text
}

func (i *IntervalReport) facts(alerts janitor.Alerts) []fact {
	within := "in " + about(time.Duration(i.Seconds*float64(time.Second)))
	var facts []fact
	add := func(subject string, state State, format string, args ...any) {
		facts = append(facts, fact{subject, state, "", fmt.Sprintf(format, args...)})
	}
	switch {
	case i.Hits == nil || i.Misses == nil:
		add("hit_rate", OK, "hit rate not told by this server")
	case *i.Hits+*i.Misses == 0 && i.Seconds < 1:
		add("hit_rate", OK, "hit rate unknown (no lookups yet)")
	case *i.Hits+*i.Misses == 0:
		add("hit_rate", OK, "hit rate unknown (no lookups %s)", within)
	case *i.Hits+*i.Misses < fewLookups:
		add("hit_rate", OK, "hit rate unknown (%d lookups %s)", *i.Hits+*i.Misses, within)
	case *i.HitRate < alerts.HitRateBelow:
		add("hit_rate", Warning, "hit rate %.1f%% is below %.6g%% (%d lookups %s)", 100**i.HitRate, 100*alerts.HitRateBelow, *i.Hits+*i.Misses, within)
	default:
		add("hit_rate", OK, "hit rate %.1f%% (%d lookups %s)", 100**i.HitRate, *i.Hits+*i.Misses, within)
	}
	if n := i.RejectedConnections; n != nil && *n > 0 {
		add("rejected_connections", Warning, "%d connections rejected %s", *n, within)
	}
	if n := i.EvictedKeys; n != nil && *n > 0 {
		add("evictions", OK, "%d keys evicted by Redis itself %s", *n, within)
	}
	if n := i.CommandErrors; n != nil && *n > 0 {
		text := fmt.Sprintf("%d command errors %s", *n, within)
		if len(i.Errors) > 0 {
			text += fmt.Sprintf(" (%s %d)", i.Errors[0].Code, i.Errors[0].Count)
		}
		add("command_errors", OK, "%s", text)
	}
	if i.MeanUS != nil {
		add("latency", OK, "%.1f us a command", *i.MeanUS)
	}
	return facts
}

func (w *WorkersReport) fact() fact {
	switch {
	case w.Restarts == nil:
		return fact{"worker_restarts", Unknown, "", "worker restarts unknown: " + w.Problem}
	case *w.Restarts > w.Over:
		return fact{"worker_restarts", Warning, "", fmt.Sprintf("%d worker restarts in the last hour are over %d", *w.Restarts, w.Over)}
	}
	return fact{"worker_restarts", OK, "", fmt.Sprintf("%d worker restarts in the last hour", *w.Restarts)}
}

// about writes a duration as exactly as anybody wants to read it.
func about(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		d = d.Round(time.Hour)
	case d >= time.Hour:
		d = d.Round(time.Minute)
	case d >= 10*time.Second:
		d = d.Round(time.Second)
	default:
		d = d.Round(100 * time.Millisecond)
	}
	return ttlpolicy.FormatDuration(d)
}
