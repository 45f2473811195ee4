package view

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/health"
)

func number(n int64) *int64 { return &n }

// checked is a check of one server with a falling hit rate.
func checked() *health.Report {
	rate, mean, at, restarts := 0.412, 4.25, time.Date(2026, 11, 28, 19, 0, 0, 0, time.UTC), 3
	return &health.Report{
		Outcome: health.Warning, ExitCode: 1, Reason: "hit_rate", HitRateBelow: 0.6, StateFile: "/var/cache/check.json",
		Message: "hit rate 41.2% is below 60% (1200 lookups in 5m); memory 61.0% (4.88 GB of 8.00 GB)", Hint: "look for a family that is evicted too young",
		Nodes: []health.NodeReport{{
			Addr: "10.0.0.1:6379", Server: "redis 7.0.15", Role: "master", UptimeS: number(86400),
			Memory: health.MemoryReport{Source: "redis", UsedBytes: 5239860101, LimitBytes: 8589934592, Ratio: 0.61, Trend: &health.TrendReport{},
				Thresholds: []health.ThresholdReport{{Name: "cleanup", Ratio: 0.6, Bytes: 5153960755, Reached: true},
					{Name: "alert_warning", Ratio: 0.8, Bytes: 6871947673, InS: number(432000), At: &at}, {Name: "alert_critical", Ratio: 0.85, Bytes: 7301444403}}},
			Totals: health.TotalsReport{EvictedKeys: number(120), ExpiredKeys: number(99), RejectedConnections: number(0)},
			Interval: &health.IntervalReport{Since: at.Add(-time.Minute), Seconds: 300, HitRate: &rate, MeanUS: &mean, EvictedKeys: number(2),
				Errors: []health.ErrorReport{{Code: "OOM", Count: 3}}, Commands: []health.CommandReport{{Name: "client|setname", Calls: 1, MeanUS: 900}}},
		}},
		Workers:  &health.WorkersReport{Log: "/var/log/server.log", Restarts: &restarts, Over: 10},
		Warnings: []janitor.Warning{{Code: "replica", Message: "10.0.0.1:6379 is a replica"}},
	}
}

func drawn(t *testing.T, o Options, r *health.Report) string {
	t.Helper()
	var out bytes.Buffer
	o.Out = &out
	if err := Check(o, r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestACheckIsOneLineAsMonitoringPluginsPrintIt(t *testing.T) {
	want := "REDIS WARNING - hit rate 41.2% is below 60% (1200 lookups in 5m); memory 61.0% (4.88 GB of 8.00 GB) | " +
		"memory=5239860101B;6871947673;7301444403;0;8589934592 hit_rate=41.20%;60:;;0;100 latency=4.25us;;;0 " +
		"evicted_keys=120c expired_keys=99c rejected_connections=0c command_errors=U uptime=86400s worker_restarts=3;10;;0\n"
	if got := drawn(t, Options{}, checked()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	unknown := &health.Report{Outcome: health.Unknown, ExitCode: 3, Message: "connect on a:1: refused", Hint: "check that Redis runs there"}
	if got := drawn(t, Options{}, unknown); got != "REDIS UNKNOWN - connect on a:1: refused; check that Redis runs there\n" {
		t.Errorf("got %q", got)
	}
}

func TestAVerboseCheckGoesOnInFurtherLines(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "check-verbose.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if got := drawn(t, Options{Verbose: true}, checked()); got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestAQuietCheckSaysNothingWhenAllIsWell(t *testing.T) {
	r := checked()
	if drawn(t, Options{Quiet: true}, r) == "" {
		t.Error("a warning was kept quiet")
	}
	r.Outcome, r.ExitCode = health.OK, 0
	if got := drawn(t, Options{Quiet: true}, r); got != "" {
		t.Errorf("got %q", got)
	}
}

// item is one of the performance data, as the plugins' guidelines have it.
var item = regexp.MustCompile(`^('[^'=|]+'|[^ '=|]+)=(U|-?[0-9.]+(s|us|ms|%|B|KB|MB|GB|TB|c)?)(;[0-9.:~@-]*){0,4}$`)

func TestServersOfAClusterHaveLabelsOfTheirOwn(t *testing.T) {
	r := checked()
	second := r.Nodes[0]
	second.Addr = "/run/a b='c'|.sock"
	second.Interval = nil
	r.Nodes = append(r.Nodes, second)
	line := strings.TrimSuffix(drawn(t, Options{}, r), "\n")
	if strings.Count(line, "|") != 1 {
		t.Fatalf("more than one bar: %s", line)
	}
	_, data, _ := strings.Cut(line, " | ")
	seen := map[string]bool{}
	for _, part := range splitItems(data) {
		if !item.MatchString(part) {
			t.Errorf("%q is no performance data", part)
		}
		label, _, _ := strings.Cut(part, "=")
		if seen[label] {
			t.Errorf("two values of %s", label)
		}
		seen[label] = true
	}
	if len(seen) != 17 {
		t.Errorf("%d values, want 8 of each server and one of the workers: %s", len(seen), data)
	}
}

// splitItems splits at blanks outside of quotes.
func splitItems(data string) []string {
	quoted := false
	return strings.FieldsFunc(data, func(r rune) bool {
		if r == '\'' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}

func TestNoStringOfACheckReachesTheTerminalRaw(t *testing.T) {
	r := checked()
	fillAll(reflect.ValueOf(r).Elem())
	text := drawn(t, Options{Verbose: true, Unicode: true}, r)
	if strings.ContainsAny(text, "\x1b\a\r\x7f\u009b\u202e") || strings.Contains(text, "\xff") {
		t.Errorf("a raw control character in %q", text)
	}
	if first, _, _ := strings.Cut(text, "\n"); strings.Count(first, "|") != 1 || !strings.Contains(first, `\x1b]0;owned`) {
		t.Errorf("the first line is broken: %q", first)
	}
}

// fillAll appends the hostile string, with a bar, to every string, also behind pointers.
func fillAll(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + hostile + "|x=1")
	case reflect.Pointer:
		if !v.IsNil() {
			fillAll(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fillAll(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			fillAll(v.Index(i))
		}
	}
}

func TestACheckIsNotChangedByBeingShown(t *testing.T) {
	r, same := checked(), checked()
	fillAll(reflect.ValueOf(r).Elem())
	fillAll(reflect.ValueOf(same).Elem())
	drawn(t, Options{Verbose: true}, r)
	if !reflect.DeepEqual(r, same) {
		t.Error("the report itself was escaped: JSON would now show that")
	}
}

func TestACheckThatNobodyCanReadIsAnError(t *testing.T) {
	if err := Check(Options{Out: closed{}}, checked()); err == nil || !strings.Contains(err.Error(), "closed pipe") {
		t.Errorf("got %v", err)
	}
}
