package view

import (
	"fmt"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

const gb = 1 << 30

func ptr(n int64) *int64 { return &n }

// base is a run on one server of the built-in policy's size, with memory over the force threshold
// and nothing decided yet.
func base(command string, outcome janitor.Outcome, reason janitor.Reason, exit int, message string) *janitor.Report {
	limit := 8.0 * gb
	return &janitor.Report{
		Schema: janitor.ReportSchema, Command: command, Version: "1.0.0",
		StartedAt: time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC), DurationMS: 41_300,
		Outcome: outcome, Reason: reason, Message: message, ExitCode: exit, Level: ttlpolicy.Force,
		Policy: janitor.PolicyReport{Name: "combot", SHA256: "9f2c1d04a77be85b3e6f0c1299ad4471c0d3e5f60718293a4b5c6d7e8f901234"},
		Users:  janitor.UsersReport{Active: 7, Over: 20, From: "family:sessions"},
		Nodes: []janitor.NodeReport{{
			Addr: "10.0.0.5:6379", RunID: "5c3b8a9f0e1d2c3b4a5968778695a4b3c2d1e0f1", Server: "redis 7.0.15", Role: "master",
			Keys: 1_204_331, Level: ttlpolicy.Force, Outcome: outcome, Reason: reason, Pace: "auto",
			Memory: janitor.MemoryReport{
				Source: "redis", UsedBytes: 6_571_299_962, LimitBytes: int64(limit), Ratio: 0.765, TargetBytes: int64(0.55 * limit),
				RSSBytes: 7_408_818_585, Fragmentation: 1.13,
				AfterBytes: 6_571_299_962, AfterRSSBytes: 7_408_818_585,
				Levels: janitor.ThresholdsReport{Cleanup: int64(0.60 * limit), Force: int64(0.75 * limit), Critical: int64(0.85 * limit)},
			},
			// Nothing is known of them before a survey.
			Families: []janitor.FamilyReport{{Name: "ml-results", LifetimeS: 7200, Histogram: []janitor.Bin{}},
				{Name: "app-cache", LifetimeS: 3600, Histogram: []janitor.Bin{}}, {Name: "sessions", LifetimeS: 1800, Histogram: []janitor.Bin{}}},
		}},
		Warnings: []janitor.Warning{},
	}
}

// families are what a walk counted: ml-results go down to 47 minutes, app-cache isn't needed any more.
func families() []janitor.FamilyReport {
	return []janitor.FamilyReport{
		{
			Name: "ml-results", Matched: 812_400, Eligible: 810_012, Evicted: 433_230, Bytes: 1_846_835_937,
			Kept:        janitor.Kept{AboveWaterline: 376_782, TTLOverLifetime: 2_381, Unknown: 7},
			WaterlineMS: ptr(4_380_000), LifetimeS: 7200, OlderThan: ptr(0),
			Histogram: histogram(24, 300, func(i int) int64 { return 46_000 - 1_000*int64(i) }),
		},
		{
			Name: "app-cache", Matched: 301_877, Eligible: 101_003,
			Kept:      janitor.Kept{Fresh: 200_112, AboveWaterline: 101_003, NoTTL: 640, TTLOverLifetime: 110, Protected: 12},
			LifetimeS: 3600, OlderThan: ptr(1800),
			Histogram: histogram(12, 300, func(i int) int64 { return 20_000 + 900*int64(i) }),
		},
		{
			Name: "sessions", Matched: 90_054, Kept: janitor.Kept{Fresh: 89_999, NoTTL: 55}, LifetimeS: 1800,
			Histogram: histogram(6, 300, func(i int) int64 { return 30_000 >> i }),
		},
	}
}

func histogram(bins int, seconds int64, keys func(i int) int64) []janitor.Bin {
	var h []janitor.Bin
	for i := range bins {
		from := int64(i) * seconds
		h = append(h, janitor.Bin{FromS: from, ToS: from + seconds, Keys: keys(i), Bytes: keys(i) * 4263})
	}
	return h
}

func planned() *janitor.Report {
	r := base("plan", janitor.Planned, janitor.TargetReached, 0, "Would evict about 433,230 keys and free about 1.72 GB, which brings memory to its target of 4.40 GB.")
	r.DurationMS = 412
	node := &r.Nodes[0]
	node.Sampled, node.Memory.AfterBytes = true, node.Memory.TargetBytes
	node.Families = families()
	for i := range node.Families {
		f := &node.Families[i]
		f.Estimate = janitor.Estimate{
			Matched: f.Matched, Eligible: f.Eligible, EligibleLow: f.Eligible - f.Eligible/90, EligibleHigh: f.Eligible + f.Eligible/90,
			Evict: f.Evicted, EvictBytes: f.Bytes, Bytes: f.Eligible * 4263, BytesLow: f.Eligible * 4210, BytesHigh: f.Eligible * 4316,
		}
		f.Matched, f.Eligible, f.Evicted, f.Bytes, f.Kept = 0, 0, 0, 0, janitor.Kept{}
	}
	r.Hint = "dry-run walks every key and counts exactly; execute evicts"
	r.Warnings = []janitor.Warning{
		{Code: "cooldown", Node: "10.0.0.5:6379", Message: "execute would be skipped: the last eviction on this node was 40s ago, and the cooldown is 2m."},
		{Code: "ttl_over_lifetime", Family: "ml-results", Node: "10.0.0.5:6379", Message: "about 2,381 keys have a TTL above the declared lifetime " +
			"of 2h and are kept: their age can't be told. Write lifetime: 3h if a writer really gives that much."},
	}
	return r
}

func dryRun() *janitor.Report {
	r := base("dry-run", janitor.Planned, janitor.TargetReached, 0, "Would evict 534,233 keys and free about 2.12 GB.")
	node := &r.Nodes[0]
	node.Scanned, node.Walks, node.Memory.AfterBytes = 1_204_331, 1, node.Memory.TargetBytes
	node.Families, node.Sampled = families(), true
	// Without a waterline: all that is eligible goes.
	node.Families[1].Evicted, node.Families[1].Bytes, node.Families[1].Kept.AboveWaterline = 101_003, 430_575_789, 0
	total(r)
	return r
}

func executed() *janitor.Report {
	r := base("execute", janitor.Evicted, janitor.TargetReached, 0, "Evicted 433,087 keys and freed 1.72 GB: memory is at its target of 4.40 GB.")
	node := &r.Nodes[0]
	node.Scanned, node.Walks, node.Backoffs, node.Memory.AfterBytes, node.Memory.AfterRSSBytes = 1_204_331, 1, 3, 4_718_592_000, 7_395_000_000
	node.Memory.Fragmentation = 1.57
	node.Families, node.Sampled = families(), true
	ml := &node.Families[0]
	ml.Evicted, ml.Refreshed, ml.Vanished, ml.Failed, ml.Uncertain = ml.Evicted-143, 12, 130, 1, 0
	r.Warnings = []janitor.Warning{{Code: "rss_stays", Message: "used memory fell by 1.73 GB, but the process still holds 6.89 GB: its memory is fragmented (1.57)."}}
	total(r)
	return r
}

func skipped() *janitor.Report {
	r := base("execute", janitor.Skipped, janitor.Busy, 0, "Left everything as it is: 23 users are active, more than the 20 that may be interrupted at level force.")
	r.Users.Active, r.Users.Busy = 23, true
	r.DurationMS = 9
	return r
}

// paused is a run that somebody on call has to understand at a glance.
func paused() *janitor.Report {
	since, until := time.Date(2026, 2, 28, 22, 10, 0, 0, time.UTC), time.Date(2026, 3, 1, 22, 10, 0, 0, time.UTC)
	r := base("execute", janitor.Skipped, janitor.Paused, 0, `paused since 2026-02-28T22:10:00Z (3h50m ago): "alice: migration" `+
		`(key redis-janitor:pause on 10.0.0.5:6379, until 2026-03-01T22:10:00Z)`)
	r.Hint = "nothing was deleted; DEL redis-janitor:pause lets janitors work again"
	r.Pause = &janitor.PauseReport{From: "key", Where: "10.0.0.5:6379", Since: &since, Until: &until, Says: "alice: migration"}
	r.Users.Active, r.DurationMS = 0, 3
	return r
}

func refused() *janitor.Report {
	r := base("execute", janitor.Refused, janitor.Guard, janitor.ExitRefused, "Refused: pattern \"*\" of family everything has a fixed prefix of 0 bytes; 3 are needed.")
	r.Hint = "Write a longer prefix, or broad: true in the family if it is meant. Nothing was deleted."
	r.Nodes, r.Level, r.Users = []janitor.NodeReport{}, ttlpolicy.OK, janitor.UsersReport{}
	r.DurationMS = 1
	return r
}

func failed() *janitor.Report {
	r := base("execute", janitor.Failed, "misconf", janitor.ExitFailed, "Failed after 21,400 keys: 10.0.0.5:6379 refuses writes since its last RDB save failed (MISCONF).")
	r.Hint = "See the server's log for why BGSAVE fails (often a full disk); it accepts writes again after a save that works. Then run again."
	node := &r.Nodes[0]
	node.Scanned, node.Walks, node.Memory.AfterBytes = 60_000, 1, 6_480_000_000
	node.Families = families()[:1]
	node.Families[0] = janitor.FamilyReport{Name: "ml-results", Matched: 41_500, Eligible: 41_500, Evicted: 21_400, Failed: 100, Bytes: 91_228_200,
		Kept: janitor.Kept{AboveWaterline: 20_000}, WaterlineMS: ptr(4_380_000), LifetimeS: 7200, OlderThan: ptr(0)}
	total(r)
	return r
}

func nothing() *janitor.Report {
	r := base("execute", janitor.Nothing, janitor.BelowThreshold, 0, "Nothing to do: memory is at 3.10 GB, below the cleanup threshold of 4.80 GB.")
	r.Level, r.DurationMS, r.Users = ttlpolicy.OK, 4, janitor.UsersReport{}
	node := &r.Nodes[0]
	node.Level, node.Memory.UsedBytes, node.Memory.AfterBytes, node.Pace = ttlpolicy.OK, 3_328_599_655, 3_328_599_655, ""
	node.Memory.RSSBytes, node.Memory.AfterRSSBytes = 3_758_096_384, 3_758_096_384
	return r
}

// exhaustedCluster has three nodes: one done, one short of eligible keys, one that was fine.
func exhaustedCluster() *janitor.Report {
	r := executed()
	r.Outcome, r.Reason, r.ExitCode = janitor.Incomplete, janitor.Exhausted, janitor.ExitIncomplete
	r.Level = ttlpolicy.Critical
	r.Message = "Evicted 1,343,959 keys on 2 of 3 nodes; 10.0.0.6:6379 is still at 7.05 GB, and nothing more is eligible."
	short, fine := executed().Nodes[0], nothing().Nodes[0]
	ml, cache := &short.Families[0], &short.Families[1]
	ml.WaterlineMS, ml.Evicted, ml.Kept.AboveWaterline = nil, ml.Evicted+ml.Kept.AboveWaterline, 0
	cache.Evicted, cache.Kept.AboveWaterline, cache.Bytes = cache.Kept.AboveWaterline, 0, 430_575_789
	short.Addr, short.Outcome, short.Reason, short.Level = "10.0.0.6:6379", janitor.Incomplete, janitor.Exhausted, ttlpolicy.Critical
	// Above its limit, and with a maxmemory that lies below it.
	short.Memory.UsedBytes, short.Memory.AfterBytes, short.Memory.MissingBytes = 9*gb, 7*gb+gb/20, 2_845_000_000
	short.Memory.MaxMemory, short.Memory.RSSBytes, short.Memory.AfterRSSBytes = 7*gb, 10*gb, 10*gb
	fine.Addr = "10.0.0.7:6379"
	r.Nodes = append(r.Nodes, short, fine)
	r.Warnings[0].Node = "10.0.0.5:6379"
	r.Warnings = append(r.Warnings, janitor.Warning{Code: "target_unreachable", Node: "10.0.0.6:6379",
		Message: "all that is eligible frees 1.95 GB, 2.65 GB less than the target needs."})
	total(r)
	return r
}

// explained has a key that goes, one that stays, one that is gone, and names that need quotes.
func explained() *janitor.Report {
	r := base("explain", janitor.Planned, janitor.Explained, 0, "execute would evict 1 of 4 keys now, at level force")
	r.DurationMS = 12
	r.Nodes[0].Families = []janitor.FamilyReport{}
	levels := func(messages ...string) (all []janitor.LevelReport) {
		for i, level := range ttlpolicy.Levels() {
			all = append(all, janitor.LevelReport{Level: level, InForce: level == ttlpolicy.Force, Evicts: messages[i][0] == 'g', Message: messages[i]})
		}
		return all
	}
	const (
		addr      = "10.0.0.5:6379"
		goes      = "goes: keys of any age may"
		notNeeded = "stays for now: force lets it go, but by an estimate older keys, or families before this one, are enough to reach the target"
		protected = "stays: it is protected, which wins over everything"
	)
	yes, no := true, false
	r.Keys = []janitor.KeyReport{
		{Key: `"ml_results:5d41402abc4b2a76b9719d911017c592"`, Node: addr, Exists: true, Family: "ml-results", Pattern: "ml_results:*", Type: "string", Bytes: ptr(4_263),
			Expires: &yes, TTLMS: ptr(4_380_000), LifetimeS: ptr(7200), AgeMS: ptr(2_820_000), IdleS: ptr(2_700), Message: goes + " (level force)", Levels: levels(goes, goes, goes)},
		{Key: `"combot_cache:1:caf\xc3\xa9\x1b[31m"`, Node: addr, Exists: true, Family: "app-cache", Pattern: "combot_cache:*", Type: "hash",
			Expires: &yes, TTLMS: ptr(1_620_000), LifetimeS: ptr(3600), AgeMS: ptr(1_980_000), Message: notNeeded + " (level force)",
			Levels: levels("stays: it is 33m old, and only keys older than 45m may go; if nobody writes it again, in 12m", notNeeded, "goes: it is 33m old, and keys older than 15m may")},
		{Key: `"celery"`, Node: addr, Exists: true, ProtectedBy: "celery*", Type: "list", Expires: &no, Bytes: ptr(91_228), IdleS: ptr(0), Message: protected + " (level force)",
			Levels: levels(protected, protected, protected)},
		{Key: `"ml_results:gone"`, Node: addr, Family: "ml-results", Pattern: "ml_results:*", LifetimeS: ptr(7200), Levels: []janitor.LevelReport{},
			Message: "there is no such key in DB 0 of 10.0.0.5:6379: it expired, was deleted, or never was; by its name it would belong to family ml-results"},
	}
	return r
}

// manyNodes are too many to be shown one by one; one of them is down.
func manyNodes() *janitor.Report {
	r := exhaustedCluster()
	r.Reason = janitor.NodeDown
	r.Message = "evicted 1,777,046 keys and freed about 5.44 GB on 5 of 6 nodes; 192.168.100.103:16379 is down: connection refused"
	r.Nodes = append(r.Nodes, r.Nodes...)
	for i := range r.Nodes {
		r.Nodes[i].Addr = fmt.Sprintf("192.168.100.%d:16379", 101+i)
	}
	r.Nodes[2] = janitor.NodeReport{Addr: r.Nodes[2].Addr, Outcome: janitor.Incomplete, Reason: janitor.NodeDown, Families: []janitor.FamilyReport{}}
	r.Warnings = []janitor.Warning{{Code: "node_down", Node: r.Nodes[2].Addr, Message: "connect: connection refused"}}
	total(r)
	return r
}

func total(r *janitor.Report) {
	r.Totals = janitor.Totals{}
	for _, node := range r.Nodes {
		r.Totals.Scanned += node.Scanned
		for _, f := range node.Families {
			r.Totals.Matched += f.Matched
			r.Totals.Eligible += f.Eligible
			r.Totals.Evicted += f.Evicted
			r.Totals.Refreshed += f.Refreshed
			r.Totals.Vanished += f.Vanished
			r.Totals.Failed += f.Failed
			r.Totals.Uncertain += f.Uncertain
			r.Totals.FreedBytes += f.Bytes
		}
	}
}
