package metricsfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"redis-janitor/cmd/metricsfile"
	"redis-janitor/janitor"
	"redis-janitor/janitor/health"
	"redis-janitor/ttlpolicy"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const node = "10.0.0.1:6379"

// evicted is a run of execute that took so many keys.
func evicted(keys int64) *janitor.Report {
	return &janitor.Report{Command: "execute", Outcome: janitor.Evicted, Reason: janitor.TargetReached, DurationMS: 1500, Level: ttlpolicy.Force,
		Nodes: []janitor.NodeReport{{
			Addr: node, Keys: 1000, Walks: 1, Level: ttlpolicy.Force,
			Memory: janitor.MemoryReport{UsedBytes: 800, LimitBytes: 1000, TargetBytes: 550, AfterBytes: 540, RSSBytes: 900, AfterRSSBytes: 890,
				Levels: janitor.ThresholdsReport{Cleanup: 600, Force: 750, Critical: 850}},
			Families: []janitor.FamilyReport{{Name: "results", Matched: keys + 7, Eligible: keys, Evicted: keys, Refreshed: 2, Kept: janitor.Kept{Fresh: 4, NoTTL: 3}, Bytes: 10 * keys}},
		}}}
}

func skipped() *janitor.Report {
	return &janitor.Report{Command: "execute", Outcome: janitor.Skipped, Reason: janitor.Busy}
}

// checked is a check that knows everything.
func checked() *health.Report {
	n := func(n int64) *int64 { return &n }
	rate, mean, restarts := 0.9, 250.0, 3
	return &health.Report{Command: "check", Outcome: health.Warning, Reason: "memory", ExitCode: 1, DurationMS: 4,
		Nodes: []health.NodeReport{{
			Addr: node, Level: ttlpolicy.Critical, Restarts: 1,
			Memory: health.MemoryReport{UsedBytes: 860, LimitBytes: 1000, RSSBytes: 950, Trend: &health.TrendReport{BytesPerHour: 7200},
				Thresholds: []health.ThresholdReport{{Name: "alert_warning", Bytes: 800, Reached: true}, {Name: "alert_critical", Bytes: 900, InS: n(20)}}},
			Totals:   health.TotalsReport{Hits: n(90), Misses: n(10), EvictedKeys: n(5), ExpiredKeys: n(6), RejectedConnections: n(7), CommandErrors: n(8)},
			Interval: &health.IntervalReport{HitRate: &rate, MeanUS: &mean},
		}},
		Workers: &health.WorkersReport{Restarts: &restarts, Over: 10}}
}

func newFile(t *testing.T) string { return filepath.Join(t.TempDir(), "redis-janitor.prom") }

func run(t *testing.T, file string, r *janitor.Report) {
	t.Helper()
	if corrupt, err := metricsfile.Run(t.Context(), file, r, noon); err != nil || corrupt != "" {
		t.Fatal(corrupt, err)
	}
}

func check(t *testing.T, file string, r *health.Report) {
	t.Helper()
	if corrupt, err := metricsfile.Check(t.Context(), file, r, noon); err != nil || corrupt != "" {
		t.Fatal(corrupt, err)
	}
}

// parsed reads a file with Prometheus' own parser.
func parsed(t *testing.T, file string) map[string]*dto.MetricFamily {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("Prometheus cannot read it: %v\n%s", err, data)
	}
	return families
}

// values lists a file's series as name{label="value"} with their values.
func values(t *testing.T, file string) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for name, family := range parsed(t, file) {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, pair := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", pair.GetName(), pair.GetValue()))
			}
			value := metric.GetGauge().GetValue()
			if metric.Counter != nil {
				value = metric.GetCounter().GetValue()
			}
			all[name+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return all
}

func has(t *testing.T, file string, want map[string]float64) {
	t.Helper()
	got := values(t, file)
	for series, value := range want {
		if found, ok := got["redis_janitor_"+series]; !ok || found != value {
			t.Errorf("%s is %v (there: %v), want %v", series, found, ok, value)
		}
	}
}

// full is a file with every metric there is.
func full(t *testing.T) string {
	t.Helper()
	file := newFile(t)
	run(t, file, evicted(100))
	check(t, file, checked())
	return file
}

func TestPrometheusReadsEveryMetricAndItsLinterFindsNoFault(t *testing.T) {
	file := full(t)
	for name, family := range parsed(t, file) {
		if !strings.HasPrefix(name, "redis_janitor_") {
			t.Errorf("%s does not begin with redis_janitor_", name)
		}
		if family.GetHelp() == "" || family.GetType() != dto.MetricType_GAUGE && family.GetType() != dto.MetricType_COUNTER {
			t.Errorf("%s has help %q and type %s", name, family.GetHelp(), family.GetType())
		}
		if counts := family.GetType() == dto.MetricType_COUNTER; counts != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %s", name, family.GetType())
		}
		for _, metric := range family.GetMetric() {
			for _, pair := range metric.GetLabel() {
				if !slices.Contains([]string{"command", "node", "family", "outcome", "reason", "level"}, pair.GetName()) {
					t.Errorf("%s has the label %s", name, pair.GetName())
				}
			}
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(bytes.NewReader(data)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v (%v): node_exporter runs as somebody else", info.Mode(), err)
	}
}

func TestARunAndACheckAreRecordedInBaseUnits(t *testing.T) {
	at, lbl := float64(noon.Unix()), `{node="`+node+`"}`
	file := newFile(t)
	run(t, file, evicted(100))
	has(t, file, map[string]float64{
		`runs_total{command="execute",outcome="evicted",reason="target_reached"}`: 1,
		`last_run_timestamp_seconds{command="execute"}`:                           at,
		`last_run_duration_seconds{command="execute"}`:                            1.5,
		`last_run_exit_code{command="execute"}`:                                   0,
		`last_success_timestamp_seconds{command="execute"}`:                       at,
		`memory_used_bytes` + lbl:                                                 540,
		`memory_rss_bytes` + lbl:                                                  890,
		`memory_limit_bytes` + lbl:                                                1000,
		`memory_target_bytes` + lbl:                                               550,
		`memory_threshold_bytes{level="force",node="` + node + `"}`:               750,
		`memory_level{level="ok",node="` + node + `"}`:                            1,
		`memory_level{level="force",node="` + node + `"}`:                         0,
		`keys` + lbl: 1000,
		`family_keys{family="results",node="` + node + `"}`:                                 107,
		`family_eligible_keys{family="results",node="` + node + `"}`:                        100,
		`family_kept_keys{family="results",node="` + node + `",reason="no_ttl"}`:            3,
		`eviction_outcomes_total{family="results",node="` + node + `",outcome="evicted"}`:   100,
		`eviction_outcomes_total{family="results",node="` + node + `",outcome="refreshed"}`: 2,
		`freed_bytes_total{family="results",node="` + node + `"}`:                           1000,
		`last_walk_timestamp_seconds` + lbl:                                                 at,
	})
	check(t, file, checked())
	has(t, file, map[string]float64{
		`runs_total{command="check",outcome="warning",reason="memory"}`: 1,
		`memory_used_bytes` + lbl:                                                         860,
		`memory_level{level="critical",node="` + node + `"}`:                              1,
		`memory_level{level="force",node="` + node + `"}`:                                 0,
		`memory_threshold_bytes{level="alert_warning",node="` + node + `"}`:               800,
		`memory_growth_bytes_per_second` + lbl:                                            2,
		`memory_threshold_reached_in_seconds{level="alert_critical",node="` + node + `"}`: 20,
		`hit_ratio` + lbl:                         0.9,
		`command_latency_seconds` + lbl:           0.00025,
		`server_hits_total` + lbl:                 90,
		`server_misses_total` + lbl:               10,
		`server_evicted_keys_total` + lbl:         5,
		`server_expired_keys_total` + lbl:         6,
		`server_rejected_connections_total` + lbl: 7,
		`server_command_errors_total` + lbl:       8,
		`server_restarts` + lbl:                   1,
		`worker_restarts{}`:                       3,
		// What the other command wrote stays.
		`last_run_exit_code{command="execute"}`:                                           0,
		`eviction_outcomes_total{family="results",node="` + node + `",outcome="evicted"}`: 100,
	})
}

func TestCountersGoOnFromTheFilesPreviousValues(t *testing.T) {
	file := newFile(t)
	run(t, file, evicted(100))
	run(t, file, evicted(20))
	run(t, file, skipped())
	has(t, file, map[string]float64{
		`runs_total{command="execute",outcome="evicted",reason="target_reached"}`:         2,
		`runs_total{command="execute",outcome="skipped",reason="busy"}`:                   1,
		`eviction_outcomes_total{family="results",node="` + node + `",outcome="evicted"}`: 120,
		`freed_bytes_total{family="results",node="` + node + `"}`:                         1200,
		`family_keys{family="results",node="` + node + `"}`:                               27,
	})
}

func TestARehearsalEvictsNothingInTheMetricsEither(t *testing.T) {
	file := newFile(t)
	rehearsed := evicted(100)
	rehearsed.Command, rehearsed.Outcome = "dry-run", janitor.Planned
	run(t, file, rehearsed)
	planned := evicted(0)
	planned.Command, planned.Outcome, planned.Nodes[0].Walks = "plan", janitor.Planned, 0
	planned.Nodes[0].Sampled = true
	planned.Nodes[0].Families[0].Estimate = janitor.Estimate{Matched: 500, Eligible: 300}
	run(t, file, planned)
	for series := range values(t, file) {
		if strings.Contains(series, "_eviction_") || strings.Contains(series, "_freed_") {
			t.Errorf("there is %s", series)
		}
	}
	has(t, file, map[string]float64{
		`memory_used_bytes{node="` + node + `"}`:                                800,
		`family_keys{family="results",node="` + node + `"}`:                     500,
		`family_eligible_keys{family="results",node="` + node + `"}`:            300,
		`family_kept_keys{family="results",node="` + node + `",reason="fresh"}`: 4,
	})
}

func TestTheLevelIsThatOfTheMemoryInUse(t *testing.T) {
	for _, c := range []struct {
		command     string
		used, after int64
		want        ttlpolicy.Level
	}{
		{"execute", 900, 599, ttlpolicy.OK}, {"execute", 900, 600, ttlpolicy.Cleanup}, {"execute", 900, 750, ttlpolicy.Force}, {"execute", 900, 850, ttlpolicy.Critical},
		{"dry-run", 850, 540, ttlpolicy.Critical}, {"plan", 100, 100, ttlpolicy.OK},
	} {
		file, r := newFile(t), evicted(1)
		r.Command, r.Nodes[0].Memory.UsedBytes, r.Nodes[0].Memory.AfterBytes = c.command, c.used, c.after
		run(t, file, r)
		want := map[string]float64{}
		for _, l := range append([]ttlpolicy.Level{ttlpolicy.OK}, ttlpolicy.Levels()...) {
			want[`memory_level{level="`+l.String()+`",node="`+node+`"}`] = 0
		}
		want[`memory_level{level="`+c.want.String()+`",node="`+node+`"}`] = 1
		has(t, file, want)
	}
}

func TestOnlyAWalkIsRecordedAsOne(t *testing.T) {
	file := newFile(t)
	for _, command := range []string{"plan", "execute"} {
		sampled := evicted(0)
		sampled.Command, sampled.Nodes[0].Walks, sampled.Nodes[0].Sampled = command, 0, true
		run(t, file, sampled)
		if _, there := values(t, file)[`last_walk_timestamp_seconds{node="`+node+`"}`]; there {
			t.Errorf("after a %s that walked nothing there is a walk", command)
		}
	}
}

func TestKeysThatCameBackAreCounted(t *testing.T) {
	file := newFile(t)
	restored := func(dryRun bool) *janitor.Report {
		return &janitor.Report{Command: "restore", Outcome: janitor.Restored, Reason: janitor.Complete, Restore: &janitor.RestoreReport{DryRun: dryRun,
			Families: []janitor.RestoredFamily{{Name: "results", RestoreCounts: janitor.RestoreCounts{Keys: 9, Restored: 7, Exists: 2}}}}}
	}
	run(t, file, restored(true))
	for series := range values(t, file) {
		if strings.Contains(series, "restored_keys") {
			t.Errorf("a dry run put back %s", series)
		}
	}
	run(t, file, restored(false))
	run(t, file, restored(false))
	has(t, file, map[string]float64{`restored_keys_total{family="results"}`: 14})
}

func TestWhatARunDidNotSeeIsNotMadeUp(t *testing.T) {
	file := newFile(t)
	lost := &janitor.Report{Command: "execute", Outcome: janitor.Failed, Reason: "unreachable", ExitCode: janitor.ExitNoServer, Nodes: []janitor.NodeReport{{Addr: node}}}
	run(t, file, lost)
	for series := range values(t, file) {
		if strings.Contains(series, "memory") || strings.Contains(series, "success") {
			t.Errorf("there is %s", series)
		}
	}
	// Most runs find memory low, and look at no key.
	run(t, file, evicted(1))
	before := values(t, file)
	low := evicted(0)
	low.Outcome, low.Reason = janitor.Nothing, janitor.BelowThreshold
	low.Nodes[0].Walks, low.Nodes[0].Scanned, low.Nodes[0].Sampled = 0, 0, false
	low.Nodes[0].Families = []janitor.FamilyReport{{Name: low.Nodes[0].Families[0].Name}}
	if corrupt, err := metricsfile.Run(t.Context(), file, low, noon.Add(time.Hour)); corrupt != "" || err != nil {
		t.Fatal(corrupt, err)
	}
	for series, value := range values(t, file) {
		if (strings.Contains(series, "family_") || strings.Contains(series, "last_walk")) && value != before[series] {
			t.Errorf("%s was %g and is %g", series, before[series], value)
		}
	}
	nothing := checked()
	nothing.Nodes[0].Interval, nothing.Nodes[0].Memory.Trend, nothing.Workers.Restarts = nil, nil, nil
	nothing.Nodes[0].Memory.Thresholds[1].InS, nothing.Nodes[0].Totals = nil, health.TotalsReport{}
	check(t, file, checked())
	check(t, file, nothing)
	for series := range values(t, file) {
		for _, gone := range []string{"hit_ratio", "latency", "growth", "reached_in", "worker_restarts", "server_hits"} {
			if strings.Contains(series, gone) {
				t.Errorf("there still is %s", series)
			}
		}
	}
}

func TestAFileOfSomethingElseIsLeftAlone(t *testing.T) {
	file := newFile(t)
	const notes = "the only copy of something"
	if err := os.WriteFile(file, []byte(notes), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := metricsfile.Run(t.Context(), file, evicted(1), noon); err == nil || !strings.Contains(err.Error(), "so it stays") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != notes {
		t.Errorf("it holds %q now, %v", text, err)
	}
}

func TestACorruptFileIsSaidAndBegunAnew(t *testing.T) {
	for name, content := range map[string]string{
		"no metrics":        "redis_janitor_\x00 is no metrics file {",
		"torn":              "# TYPE redis_janitor_runs_total counter\nredis_janitor_runs_total{command=\"exec",
		"another type":      "# TYPE redis_janitor_runs_total gauge\nredis_janitor_runs_total{command=\"a\",outcome=\"b\",reason=\"c\"} 5\n",
		"a gauge counts":    "# TYPE redis_janitor_keys counter\nredis_janitor_keys{node=\"a\"} 5\n",
		"half of it wrong":  "# TYPE redis_janitor_runs_total counter\nredis_janitor_runs_total{command=\"execute\",outcome=\"evicted\",reason=\"target_reached\"} 5\n# TYPE redis_janitor_keys counter\nredis_janitor_keys{node=\"a\"} 5\n",
		"other labels":      "# TYPE redis_janitor_runs_total counter\nredis_janitor_runs_total{user=\"a\"} 5\n",
		"a counter below 0": "# TYPE redis_janitor_runs_total counter\nredis_janitor_runs_total{command=\"a\",outcome=\"b\",reason=\"c\"} -5\n",
		"no number":         "# TYPE redis_janitor_runs_total counter\nredis_janitor_runs_total{command=\"a\",outcome=\"b\",reason=\"c\"} NaN\n",
	} {
		file := newFile(t)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		corrupt, err := metricsfile.Run(t.Context(), file, evicted(1), noon)
		if err != nil || !strings.Contains(corrupt, "begin at 0 again") {
			t.Errorf("%s: %q, %v", name, corrupt, err)
		}
		run(t, file, evicted(1))
		has(t, file, map[string]float64{`runs_total{command="execute",outcome="evicted",reason="target_reached"}`: 2})
	}
}

func TestAFileDoesNotRememberAllNodesThereEverWere(t *testing.T) {
	for there, want := range map[int]int{10_000: 10_001, 10_001: 1} {
		var old strings.Builder
		old.WriteString("# TYPE redis_janitor_runs_total counter\nredis_janitor_runs_total{command=\"execute\",outcome=\"evicted\",reason=\"target_reached\"} 5\n")
		old.WriteString("# TYPE redis_janitor_freed_bytes_total counter\n")
		for i := range there {
			fmt.Fprintf(&old, "redis_janitor_freed_bytes_total{node=\"pod-%d:6379\",family=\"results\"} 7\n", i)
		}
		file := newFile(t)
		if err := os.WriteFile(file, []byte(old.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, file, evicted(1))
		if got := len(parsed(t, file)["redis_janitor_freed_bytes_total"].GetMetric()); got != want {
			t.Errorf("of %d nodes %d stay, want %d", there, got, want)
		}
		// Bounding one metric must not cost the others.
		has(t, file, map[string]float64{`runs_total{command="execute",outcome="evicted",reason="target_reached"}`: 6})
	}
}

func TestHostileNamesStayLabels(t *testing.T) {
	file := newFile(t)
	r := evicted(1)
	r.Nodes[0].Addr = "/run/\xff\"} 1\n# x\\.sock"
	r.Nodes[0].Families[0].Name = "a\"b\\c\nd"
	run(t, file, r)
	run(t, file, r)
	series := slices.Collect(maps.Keys(values(t, file)))
	if !slices.ContainsFunc(series, func(s string) bool { return strings.Contains(s, `a\"b\\c\nd`) }) {
		t.Errorf("the family is missing from %q", series)
	}
	if got := parsed(t, file)["redis_janitor_freed_bytes_total"].GetMetric(); len(got) != 1 || got[0].GetCounter().GetValue() != 20 {
		t.Errorf("its counter did not go on: %v", got)
	}
}

func TestAFileThatCannotBeWrittenIsAnError(t *testing.T) {
	if _, err := metricsfile.Run(t.Context(), filepath.Join(t.TempDir(), "no such folder", "x.prom"), evicted(1), noon); err == nil {
		t.Error("it was written")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := metricsfile.Run(ctx, newFile(t), evicted(1), noon); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
