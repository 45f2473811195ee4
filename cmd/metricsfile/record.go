package metricsfile

import (
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/health"
	"redis-janitor/ttlpolicy"
)

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// ended records what every command has.
func (m *metrics) ended(command, outcome, reason string, exitCode int, took time.Duration, success bool, now time.Time) {
	m.runs.add(1, command, outcome, reason)
	m.lastRun.set(seconds(now), command)
	m.duration.set(took.Seconds(), command)
	m.exitCode.set(float64(exitCode), command)
	if success {
		m.lastSuccess.set(seconds(now), command)
	}
}

func (m *metrics) run(r *janitor.Report, now time.Time) {
	success := r.ExitCode == janitor.ExitDone || r.ExitCode == janitor.ExitToEvict
	m.ended(r.Command, string(r.Outcome), string(r.Reason), r.ExitCode, time.Duration(r.DurationMS)*time.Millisecond, success, now)
	execute := r.Command == string(janitor.Execute)
	for i := range r.Nodes {
		n := &r.Nodes[i]
		if n.Memory.LimitBytes > 0 { // else the run ended before it was read
			used, rss := n.Memory.UsedBytes, n.Memory.RSSBytes
			if execute { // what the others have for afterwards is an estimate
				used, rss = n.Memory.AfterBytes, n.Memory.AfterRSSBytes
			}
			m.memory(n.Addr, used, n.Memory.LimitBytes, rss, now)
			m.target.forget(n.Addr)
			if n.Memory.TargetBytes >= 0 {
				m.target.set(float64(n.Memory.TargetBytes), n.Addr)
			}
			levels := n.Memory.Levels
			m.threshold.set(float64(levels.Cleanup), n.Addr, ttlpolicy.Cleanup.String())
			m.threshold.set(float64(levels.Force), n.Addr, ttlpolicy.Force.String())
			m.threshold.set(float64(levels.Critical), n.Addr, ttlpolicy.Critical.String())
			m.atLevel(n.Addr, levelOf(used, levels))
			m.keys.set(float64(n.Keys), n.Addr)
		}
		m.families(n, execute, now)
	}
	if r.Restore != nil && !r.Restore.DryRun {
		for i := range r.Restore.Families {
			f := &r.Restore.Families[i]
			m.restored.add(float64(f.Restored), f.Name)
		}
	}
}

// families records what was found of each family, where the keyspace was looked through at all.
func (m *metrics) families(n *janitor.NodeReport, execute bool, now time.Time) {
	if n.Walks == 0 && !n.Sampled && n.Scanned == 0 {
		return // its families are named in the report, and nothing is known of them
	}
	for _, v := range []*vector{m.matched, m.eligible} {
		v.forget(n.Addr)
	}
	if n.Walks > 0 {
		m.kept.forget(n.Addr)
		m.walked.set(seconds(now), n.Addr)
	}
	for i := range n.Families {
		f := &n.Families[i]
		if n.Walks == 0 {
			m.matched.set(float64(f.Estimate.Matched), n.Addr, f.Name)
			m.eligible.set(float64(f.Estimate.Eligible), n.Addr, f.Name)
			continue
		}
		m.matched.set(float64(f.Matched), n.Addr, f.Name)
		m.eligible.set(float64(f.Eligible), n.Addr, f.Name)
		for reason, keys := range map[ttlpolicy.Reason]int64{
			ttlpolicy.ReasonFresh: f.Kept.Fresh, ttlpolicy.ReasonNoTTL: f.Kept.NoTTL, ttlpolicy.ReasonTTLOverLifetime: f.Kept.TTLOverLifetime,
			ttlpolicy.ReasonProtected: f.Kept.Protected, ttlpolicy.ReasonNotIdle: f.Kept.NotIdle, ttlpolicy.ReasonAboveWaterline: f.Kept.AboveWaterline,
			ttlpolicy.ReasonNewest: f.Kept.Newest, ttlpolicy.ReasonTooLarge: f.Kept.TooLarge, ttlpolicy.ReasonMoved: f.Kept.Moved,
			ttlpolicy.ReasonUnknown: f.Kept.Unknown,
		} {
			m.kept.set(float64(keys), n.Addr, f.Name, string(reason))
		}
		if !execute { // nothing became of any key
			continue
		}
		for outcome, keys := range map[string]int64{
			"evicted": f.Evicted, "refreshed": f.Refreshed, "vanished": f.Vanished, "failed": f.Failed, "uncertain": f.Uncertain,
		} {
			m.outcomes.add(float64(keys), n.Addr, f.Name, outcome)
		}
		m.freed.add(float64(max(f.Bytes, 0)), n.Addr, f.Name)
	}
}

func (m *metrics) memory(node string, used, limit, rss int64, now time.Time) {
	m.used.set(float64(used), node)
	m.limit.set(float64(limit), node)
	m.rss.set(float64(rss), node)
	m.measured.set(seconds(now), node)
}

// levelOf is the level that so much memory is at. The report's is the one that the run began at, or that --level gave it.
func levelOf(used int64, from janitor.ThresholdsReport) ttlpolicy.Level {
	switch {
	case used >= from.Critical:
		return ttlpolicy.Critical
	case used >= from.Force:
		return ttlpolicy.Force
	case used >= from.Cleanup:
		return ttlpolicy.Cleanup
	}
	return ttlpolicy.OK
}

func (m *metrics) atLevel(node string, level ttlpolicy.Level) {
	for _, l := range append([]ttlpolicy.Level{ttlpolicy.OK}, ttlpolicy.Levels()...) {
		is := 0.0
		if l == level {
			is = 1
		}
		m.level.set(is, node, l.String())
	}
}

func (m *metrics) check(r *health.Report, now time.Time) {
	m.ended(r.Command, r.Outcome.String(), r.Reason, r.ExitCode, time.Duration(r.DurationMS)*time.Millisecond, r.Outcome != health.Unknown, now)
	for i := range r.Nodes {
		n := &r.Nodes[i]
		m.memory(n.Addr, n.Memory.UsedBytes, n.Memory.LimitBytes, n.Memory.RSSBytes, now)
		m.atLevel(n.Addr, n.Level)
		m.reached.forget(n.Addr)
		for _, t := range n.Memory.Thresholds {
			m.threshold.set(float64(t.Bytes), n.Addr, t.Name)
			if t.InS != nil {
				m.reached.set(float64(*t.InS), n.Addr, t.Name)
			}
		}
		m.growth.forget(n.Addr)
		if n.Memory.Trend != nil {
			m.growth.set(n.Memory.Trend.BytesPerHour/3600, n.Addr)
		}
		m.restarts.set(float64(n.Restarts), n.Addr)
		for v, total := range map[*vector]*int64{
			m.hits: n.Totals.Hits, m.misses: n.Totals.Misses, m.evictions: n.Totals.EvictedKeys, m.expiries: n.Totals.ExpiredKeys,
			m.rejections: n.Totals.RejectedConnections, m.errors: n.Totals.CommandErrors,
		} {
			// The server's own counters: what it says now is the whole, and it begins anew with a restart.
			v.forget(n.Addr)
			if total != nil {
				v.add(float64(*total), n.Addr)
			}
		}
		m.hitRatio.forget(n.Addr)
		m.latency.forget(n.Addr)
		if n.Interval != nil {
			if n.Interval.HitRate != nil {
				m.hitRatio.set(*n.Interval.HitRate, n.Addr)
			}
			if n.Interval.MeanUS != nil {
				m.latency.set(*n.Interval.MeanUS/1e6, n.Addr)
			}
		}
	}
	if r.Workers != nil {
		m.workerRestart.gauge.Reset()
		if r.Workers.Restarts != nil {
			m.workerRestart.set(float64(*r.Workers.Restarts))
		}
	}
}
