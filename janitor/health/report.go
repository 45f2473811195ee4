package health

import (
	"fmt"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// ReportSchema names the layout of Report. It changes only when a field is renamed or removed.
const ReportSchema = "redis-janitor/check/v1"

// State is a verdict as monitors know it. Its number is the exit code.
type State int

// The states of the monitoring plugins (their development guidelines, "Plugin Return Codes").
const (
	OK State = iota
	Warning
	Critical
	Unknown
)

var stateNames = [...]string{OK: "ok", Warning: "warning", Critical: "critical", Unknown: "unknown"}

func (s State) String() string {
	if s < OK || s > Unknown {
		return fmt.Sprintf("state(%d)", int(s))
	}
	return stateNames[s]
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if string(text) == name {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("state %q is unknown", text)
}

// worse tells which of two states matters more: something that is known to be wrong outweighs
// something that cannot be told.
func (s State) worse(than State) bool {
	weight := [...]int{OK: 0, Unknown: 1, Warning: 2, Critical: 3}
	return weight[s] > weight[than]
}

// Report is what a check has to say: the JSON document of -o json, and all that the monitoring
// plugins' line is drawn from. A null is something that is not known.
type Report struct {
	Schema     string    `json:"schema"`
	Command    string    `json:"command"`
	Version    string    `json:"version"`
	StartedAt  time.Time `json:"started_at"`
	DurationMS int64     `json:"duration_ms"`

	Outcome State `json:"outcome"`
	// Reason is what decided: the first alert's subject, "ok", or why nothing could be told, in the
	// words of the other commands' reports.
	Reason   string          `json:"reason"`
	Message  string          `json:"message"`
	Hint     string          `json:"hint,omitempty"`
	ExitCode int             `json:"exit_code"`
	Level    ttlpolicy.Level `json:"level"`

	Policy    janitor.PolicyReport `json:"policy"`
	StateFile string               `json:"state_file"`
	// HitRateBelow is the alert's threshold; memory's stand with each server.
	HitRateBelow float64        `json:"hit_rate_below"`
	Alerts       []Alert        `json:"alerts"`
	Nodes        []NodeReport   `json:"nodes"`
	Workers      *WorkersReport `json:"workers"` // null without --worker-log
	// Permissions are what the user has and lacks of the rules; only where they were asked for.
	Permissions []PermissionReport `json:"permissions,omitempty"`
	Warnings    []janitor.Warning  `json:"warnings"`
}

// Alert is one thing that is not as it should be.
type Alert struct {
	Subject string `json:"subject"` // memory, hit_rate, rejected_connections, redis_restarts, worker_restarts, node_down or permission
	State   State  `json:"state"`
	Node    string `json:"node,omitempty"`
	Message string `json:"message"`
}

// NodeReport is one server.
type NodeReport struct {
	Addr     string          `json:"addr"`
	RunID    string          `json:"run_id"`
	Server   string          `json:"server"`
	Role     string          `json:"role"`
	UptimeS  *int64          `json:"uptime_s"`
	Restarts int             `json:"restarts_last_hour"` // as far as checks have seen them
	Level    ttlpolicy.Level `json:"level"`
	Memory   MemoryReport    `json:"memory"`
	Totals   TotalsReport    `json:"totals"`
	// Interval is the time since the last check, null where nothing is known of it.
	Interval *IntervalReport `json:"interval"`
}

// MemoryReport is one server's memory in bytes, and where it is heading.
type MemoryReport struct {
	Source     string            `json:"source"`
	UsedBytes  int64             `json:"used_bytes"`
	LimitBytes int64             `json:"limit_bytes"`
	Ratio      float64           `json:"ratio"`
	RSSBytes   int64             `json:"rss_bytes"`
	MaxMemory  int64             `json:"maxmemory_bytes"`
	Thresholds []ThresholdReport `json:"thresholds"` // lowest first
	// Trend is null where memory was not watched for long enough.
	Trend *TrendReport `json:"trend"`
}

// ThresholdReport is one of the alerts' or the levels' thresholds.
type ThresholdReport struct {
	Name    string  `json:"name"` // alert_warning, alert_critical, cleanup, force or critical
	Ratio   float64 `json:"ratio"`
	Bytes   int64   `json:"bytes"`
	Reached bool    `json:"reached"`
	// InS and At are when it will be reached at this rate: null where it is, or not within a year.
	InS *int64     `json:"in_s"`
	At  *time.Time `json:"at"`
}

// TrendReport is the straight line through the last readings.
type TrendReport struct {
	BytesPerHour float64 `json:"bytes_per_hour"`
	OverS        float64 `json:"over_s"`
	Readings     int     `json:"readings"`
}

// TotalsReport is what the server has counted since it started, or since its statistics were reset.
type TotalsReport struct {
	Hits                *int64 `json:"hits"`
	Misses              *int64 `json:"misses"`
	EvictedKeys         *int64 `json:"evicted_keys"`
	ExpiredKeys         *int64 `json:"expired_keys"`
	RejectedConnections *int64 `json:"rejected_connections"`
	CommandErrors       *int64 `json:"command_errors"`
}

// IntervalReport is what the server counted since the last check, or since a restart in between.
type IntervalReport struct {
	Since               time.Time       `json:"since"`
	Seconds             float64         `json:"seconds"`
	Hits                *int64          `json:"hits"`
	Misses              *int64          `json:"misses"`
	HitRate             *float64        `json:"hit_rate"` // null where too little was looked up
	EvictedKeys         *int64          `json:"evicted_keys"`
	ExpiredKeys         *int64          `json:"expired_keys"`
	RejectedConnections *int64          `json:"rejected_connections"`
	CommandErrors       *int64          `json:"command_errors"`
	Errors              []ErrorReport   `json:"errors"`
	Calls               int64           `json:"calls"`
	MeanUS              *float64        `json:"mean_us"`  // a call, over all commands; null without any
	Commands            []CommandReport `json:"commands"` // those first that took most time; at most 50
}

// ErrorReport counts replies with one error code.
type ErrorReport struct {
	Code  string `json:"code"`
	Count int64  `json:"count"`
}

// CommandReport is what one command cost inside the server.
type CommandReport struct {
	Name   string  `json:"name"`
	Calls  int64   `json:"calls"`
	MeanUS float64 `json:"mean_us"`
}

func (c CommandReport) totalUS() float64 { return c.MeanUS * float64(c.Calls) }

// WorkersReport is what gunicorn's log tells.
type WorkersReport struct {
	Log      string `json:"log"`
	Restarts *int   `json:"restarts_last_hour"` // null where the log does not tell
	Over     int    `json:"over"`
	Problem  string `json:"problem,omitempty"` // why it does not
}

// refuse makes a report one of why nothing could be told.
func (r *Report) refuse(reason, message, hint string) {
	r.Outcome, r.ExitCode, r.Reason, r.Message, r.Hint = Unknown, int(Unknown), reason, message, hint
}

// Refusal is the report of a check that could not even begin: wrong usage or a wrong policy.
func Refusal(version string, now time.Time, reason janitor.Reason, err error) *Report {
	r := newReport(version, now)
	hint := ""
	if reason == janitor.Usage {
		hint = "redis-janitor check --help lists the flags"
	}
	r.refuse(string(reason), err.Error(), hint)
	return r
}

func newReport(version string, now time.Time) *Report {
	return &Report{Schema: ReportSchema, Command: "check", Version: version, StartedAt: now.UTC(),
		Alerts: []Alert{}, Nodes: []NodeReport{}, Warnings: []janitor.Warning{}}
}
