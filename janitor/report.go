package janitor

import (
	"time"

	"redis-janitor/ttlpolicy"
)

// ReportSchema names the layout of Report. It changes only when a field is renamed or removed.
const ReportSchema = "redis-janitor/report/v1"

// Outcome is what a run came to, in one word.
type Outcome string

// The outcomes of a run.
const (
	Nothing    Outcome = "nothing"    // there was nothing to do
	Skipped    Outcome = "skipped"    // a gate (busy, cooldown, lease, pause) sent the run home
	Planned    Outcome = "planned"    // plan and dry-run found something to evict
	Evicted    Outcome = "evicted"    // the run did what it came for
	Restored   Outcome = "restored"   // likewise, a restore
	Incomplete Outcome = "incomplete" // a limit, the deadline or a lack of eligible keys ended it early
	Refused    Outcome = "refused"    // a guard, or the server, said no before anything was deleted
	Failed     Outcome = "failed"     // it broke; the counts say how far it came
)

// Reason says why a run ended as it did, in one of the contract's words. The words for what
// a server answers are keyspace.Kind's.
type Reason string

// The reasons that the janitor itself gives.
const (
	BelowThreshold Reason = "below_threshold"
	Busy           Reason = "busy"
	Cooldown       Reason = "cooldown"
	LeaseHeld      Reason = "lease_held"
	LeaseLost      Reason = "lease_lost"
	Paused         Reason = "paused"
	TargetReached  Reason = "target_reached"
	Exhausted      Reason = "exhausted"
	MaxKeys        Reason = "max_keys"
	MaxBytes       Reason = "max_bytes"
	Deadline       Reason = "deadline"
	Interrupted    Reason = "interrupted"
	Guard          Reason = "guard"
	Drift          Reason = "drift"
	Replica        Reason = "replica"
	NodeDown       Reason = "node_down"
	Usage          Reason = "usage"
	BadPolicy      Reason = "policy"
	File           Reason = "file"
	PlanUsed       Reason = "plan_used"
	BadPlan        Reason = "plan"
	Internal       Reason = "internal"
	Explained      Reason = "explained"
)

// Exit codes, as cron jobs and hooks see them. 2 is a crash's (and a check's) and is given to nothing else.
const (
	ExitDone       = 0
	ExitFailed     = 1
	ExitIncomplete = 3
	ExitRefused    = 4
	ExitNoServer   = 5
	ExitToEvict    = 10
	ExitUsage      = 64
	ExitPolicy     = 78
	ExitHangUp     = 129
	ExitInterrupt  = 130
	ExitTerminate  = 143
)

// Report is what a run has to say for itself: the JSON document of -o json, and all that the
// views for people are drawn from. Byte counts are estimates wherever the command deletes nothing.
type Report struct {
	Schema     string    `json:"schema"`
	Command    string    `json:"command"`
	Version    string    `json:"version"`
	StartedAt  time.Time `json:"started_at"`
	DurationMS int64     `json:"duration_ms"`

	Outcome  Outcome         `json:"outcome"`
	Reason   Reason          `json:"reason"`
	Message  string          `json:"message"`
	Hint     string          `json:"hint,omitempty"` // what to do next, where something went wrong
	ExitCode int             `json:"exit_code"`
	Level    ttlpolicy.Level `json:"level"`

	Policy   PolicyReport `json:"policy"`
	Plan     *PlanReport  `json:"plan,omitempty"` // the saved plan that was made, or carried out
	Users    UsersReport  `json:"users"`
	Pause    *PauseReport `json:"pause,omitempty"` // only where one holds
	Nodes    []NodeReport `json:"nodes"`
	Totals   Totals       `json:"totals"`
	Warnings []Warning    `json:"warnings"`

	// Keys are what explain was asked about, in that order; only explain has them.
	Keys []KeyReport `json:"keys,omitempty"`

	// Capsule is the file that holds what was deleted, nil where there is none; Restore what was put back.
	Capsule *CapsuleReport `json:"capsule,omitempty"`
	Restore *RestoreReport `json:"restore,omitempty"`
}

// PolicyReport names the policy in force. SHA256 covers what the flags changed as well.
type PolicyReport struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// UsersReport is what the busy gate saw.
type UsersReport struct {
	Active int64  `json:"active"`
	Over   int64  `json:"over"`
	From   string `json:"from"`
	Busy   bool   `json:"busy"`
}

// PauseReport is the switch that keeps execute from working, as whoever set it described it.
type PauseReport struct {
	From  string `json:"from"`  // key or file
	Where string `json:"where"` // the server's address, or the file's path
	// Since is when it was set, as far as its text begins with a time or a file has one; Until is when its
	// key expires. Null where there is no such time.
	Since *time.Time `json:"since"`
	Until *time.Time `json:"until"`
	Says  string     `json:"says"` // by whom and why; what does not print is escaped
}

// NodeReport is one server's part of a run.
type NodeReport struct {
	Addr    string          `json:"addr"`
	RunID   string          `json:"run_id"`
	Server  string          `json:"server"`
	Role    string          `json:"role"`
	DB      int             `json:"db"`
	Keys    int64           `json:"keys"`
	Scanned int64           `json:"scanned"`
	Walks   int             `json:"walks"`
	Level   ttlpolicy.Level `json:"level"`
	// Outcome and Reason are this node's own: in a cluster, one may be done where another is not.
	Outcome Outcome `json:"outcome"`
	Reason  Reason  `json:"reason"`
	Pace    string  `json:"pace"`
	// Backoffs counts how often the canary made the janitor slow down for others.
	Backoffs int64          `json:"backoffs"`
	Sampled  bool           `json:"sampled"` // the estimates come from a sample rather than from every key
	Memory   MemoryReport   `json:"memory"`
	Families []FamilyReport `json:"families"`
}

// MemoryReport holds one node's memory in bytes. Used is what the level was judged by; After is
// measured after the last deletion (an estimate in plan and dry-run).
type MemoryReport struct {
	Source        string           `json:"source"`
	UsedBytes     int64            `json:"used_bytes"`
	LimitBytes    int64            `json:"limit_bytes"`
	Ratio         float64          `json:"ratio"`
	TargetBytes   int64            `json:"target_bytes"`
	AfterBytes    int64            `json:"after_bytes"`
	RSSBytes      int64            `json:"rss_bytes"`
	AfterRSSBytes int64            `json:"after_rss_bytes"`
	MaxMemory     int64            `json:"maxmemory_bytes"`
	Fragmentation float64          `json:"fragmentation_ratio"`
	MissingBytes  int64            `json:"missing_bytes"` // how far all that is eligible falls short of the target
	Levels        ThresholdsReport `json:"levels"`
}

// ThresholdsReport gives each level's threshold in bytes of the node's limit.
type ThresholdsReport struct {
	Cleanup  int64 `json:"cleanup_bytes"`
	Force    int64 `json:"force_bytes"`
	Critical int64 `json:"critical_bytes"`
}

// FamilyReport counts one family's keys on one node. Matched is always the sum of the outcomes
// and of everything kept.
type FamilyReport struct {
	Name      string `json:"name"`
	Matched   int64  `json:"matched"`
	Eligible  int64  `json:"eligible"`
	Evicted   int64  `json:"evicted"`
	Refreshed int64  `json:"refreshed"`
	Vanished  int64  `json:"vanished"`
	Failed    int64  `json:"failed"`
	Uncertain int64  `json:"uncertain"`
	Kept      Kept   `json:"kept"`
	Bytes     int64  `json:"bytes"`
	// WaterlineMS is the highest remaining TTL that goes, in milliseconds; null where none was needed.
	WaterlineMS *int64   `json:"waterline_ms"`
	Estimate    Estimate `json:"estimate"`
	// LifetimeS and MaxTTLS let a view draw the age axis: MaxTTL is the highest remaining TTL that
	// the level lets go, null where the family has no rule at this level.
	LifetimeS int64  `json:"lifetime_s"`
	OlderThan *int64 `json:"older_than_s"`
	Histogram []Bin  `json:"age_histogram"`
}

// Kept counts the keys that stay, by reason.
type Kept struct {
	Fresh           int64 `json:"fresh"`
	NoTTL           int64 `json:"no_ttl"`
	TTLOverLifetime int64 `json:"ttl_over_lifetime"`
	Protected       int64 `json:"protected"`
	NotIdle         int64 `json:"not_idle"`
	AboveWaterline  int64 `json:"above_waterline"`
	Newest          int64 `json:"newest"`
	TooLarge        int64 `json:"too_large"`
	Moved           int64 `json:"moved"`
	Unknown         int64 `json:"unknown"`
}

// Estimate is what the survey expects of a family: point estimates and 95 % intervals. Bytes is
// what evicting everything eligible should free, Evict how many keys the target needs.
type Estimate struct {
	Matched      int64 `json:"matched"`
	Eligible     int64 `json:"eligible"`
	EligibleLow  int64 `json:"eligible_low"`
	EligibleHigh int64 `json:"eligible_high"`
	Evict        int64 `json:"evict"`
	Bytes        int64 `json:"bytes"`
	BytesLow     int64 `json:"bytes_low"`
	BytesHigh    int64 `json:"bytes_high"`
	EvictBytes   int64 `json:"evict_bytes"`
	NoTTL        int64 `json:"no_ttl"` // how many of the eligible keys have no TTL; they go first
}

// Bin is one bar of a family's age histogram: keys whose age lies in [FromS, ToS), in seconds.
type Bin struct {
	FromS int64 `json:"from_s"`
	ToS   int64 `json:"to_s"`
	Keys  int64 `json:"keys"`
	Bytes int64 `json:"bytes"`
}

// Totals sums the nodes.
type Totals struct {
	Scanned    int64 `json:"scanned"`
	Matched    int64 `json:"matched"`
	Eligible   int64 `json:"eligible"`
	Evicted    int64 `json:"evicted"`
	Refreshed  int64 `json:"refreshed"`
	Vanished   int64 `json:"vanished"`
	Failed     int64 `json:"failed"`
	Uncertain  int64 `json:"uncertain"`
	FreedBytes int64 `json:"freed_bytes"`
}

// Warning is something the operator should know that did not stop the run.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Family  string `json:"family,omitempty"`
	Node    string `json:"node,omitempty"`
}

// Keep counts one more key kept for a reason, and reports false for a reason it does not know.
func (k *Kept) Keep(reason ttlpolicy.Reason, n int64) bool {
	switch reason {
	case ttlpolicy.ReasonFresh:
		k.Fresh += n
	case ttlpolicy.ReasonNoTTL:
		k.NoTTL += n
	case ttlpolicy.ReasonTTLOverLifetime:
		k.TTLOverLifetime += n
	case ttlpolicy.ReasonProtected:
		k.Protected += n
	case ttlpolicy.ReasonNotIdle:
		k.NotIdle += n
	case ttlpolicy.ReasonAboveWaterline:
		k.AboveWaterline += n
	case ttlpolicy.ReasonNewest:
		k.Newest += n
	case ttlpolicy.ReasonTooLarge:
		k.TooLarge += n
	case ttlpolicy.ReasonMoved:
		k.Moved += n
	case ttlpolicy.ReasonUnknown:
		k.Unknown += n
	default:
		return false
	}
	return true
}

// Total is the number of keys kept, whatever the reason.
func (k Kept) Total() int64 {
	return k.Fresh + k.NoTTL + k.TTLOverLifetime + k.Protected + k.NotIdle +
		k.AboveWaterline + k.Newest + k.TooLarge + k.Moved + k.Unknown
}

// close settles what follows from other fields: matched as the sum of its parts, and the totals.
func (r *Report) close() {
	r.Totals = Totals{}
	for i := range r.Nodes {
		node := &r.Nodes[i]
		r.Totals.Scanned += node.Scanned
		for j := range node.Families {
			f := &node.Families[j]
			f.Matched = f.Evicted + f.Refreshed + f.Vanished + f.Failed + f.Uncertain + f.Kept.Total()
			r.Totals.Matched += f.Matched
			r.Totals.Eligible += f.Eligible
			r.Totals.Evicted += f.Evicted
			r.Totals.Refreshed += f.Refreshed
			r.Totals.Vanished += f.Vanished
			r.Totals.Failed += f.Failed
			r.Totals.Uncertain += f.Uncertain
			r.Totals.FreedBytes += f.Bytes
		}
		if node.Level > r.Level {
			r.Level = node.Level
		}
	}
	if r.Nodes == nil {
		r.Nodes = []NodeReport{}
	}
	if r.Warnings == nil {
		r.Warnings = []Warning{}
	}
}

// Refusal is the report of a command that could not even begin: wrong usage or a wrong policy.
func Refusal(command, version string, now time.Time, exit int, reason Reason, err error) *Report {
	r := &Report{Schema: ReportSchema, Command: command, Version: version, StartedAt: now.UTC(),
		Outcome: Refused, Reason: reason, Message: err.Error(), ExitCode: exit}
	r.close()
	return r
}
