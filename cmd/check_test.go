package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/health"
	"redis-janitor/janitor/redistest"
)

// called is one command line with its surroundings.
type called struct {
	code     int
	out, err string
}

// call runs a command line against a server, in a home of the test's own.
func call(t *testing.T, s *redistest.Server, home string, args ...string) called {
	t.Helper()
	var out, complaints bytes.Buffer
	sys := System{
		Args: args, In: strings.NewReader(""), Out: &out, Err: &complaints, Now: time.Now, Environ: []string{"HOME=" + home},
		Root: os.DirFS("/"), LockDir: t.TempDir(), Hostname: "test", PID: 1,
	}
	if s != nil {
		sys.Environ = append(sys.Environ, "REDIS_URL="+s.URL())
	}
	code := Run(t.Context(), sys)
	return called{code, out.String(), complaints.String()}
}

// pluginLine is a monitoring plugin's whole output.
var pluginLine = regexp.MustCompile(`^REDIS (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+( \| ([a-z_]+=(U|[0-9.]+(B|%|us|c|s)?)(;[0-9.:]*)* ?)+)?\n$`)

func TestCheckSpeaksTheMonitoringPluginsLanguage(t *testing.T) {
	s, home := redistest.Start(t), t.TempDir()
	log := filepath.Join(home, "server.log")
	boots := func(n int) {
		t.Helper()
		line := time.Now().Format("[2006-01-02 15:04:05 -0700]") + " [7] [INFO] Booting worker with pid: 8\n"
		if err := os.WriteFile(log, []byte(strings.Repeat(line, n)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	boots(11)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 0, "REDIS OK - memory 0.0%"},
		{[]string{"--memory-limit", "1kb"}, 2, "REDIS CRITICAL - memory "},
		{[]string{"--worker-log", log}, 1, "REDIS WARNING - 11 worker restarts in the last hour are over 10"},
		{[]string{"--worker-log", log + ".none"}, 3, "REDIS UNKNOWN - worker restarts unknown: "},
		{[]string{"-u", "redis://127.0.0.1:1/0"}, 3, "REDIS UNKNOWN - "},
		{[]string{"-u", "nowhere"}, 3, "REDIS UNKNOWN - the Redis URL "},
		{[]string{"--no-such-flag"}, 3, "REDIS UNKNOWN - unknown flag: --no-such-flag; redis-janitor check --help"},
		{[]string{"--level", "high"}, 3, "REDIS UNKNOWN - invalid argument"},
		{[]string{"an argument"}, 3, "REDIS UNKNOWN - "},
		{[]string{"--connect-timeout", "0s"}, 3, "REDIS UNKNOWN - --connect-timeout"},
		{[]string{"-p", filepath.Join(home, "none.yaml")}, 3, "REDIS UNKNOWN - policy "},
		{[]string{"--memory-limit", "maxmemory"}, 3, "REDIS UNKNOWN - memory of "},
	} {
		got := call(t, s, home, append([]string{"check"}, c.args...)...)
		if got.code != c.code || !strings.HasPrefix(got.out, c.want) || !pluginLine.MatchString(got.out) {
			t.Errorf("check %v: exit %d, want %d: %q, want %q…\nstderr: %s", c.args, got.code, c.code, got.out, c.want, got.err)
		}
	}
}

func TestCheckAsJSONIsOneDocumentWhateverHappens(t *testing.T) {
	s, home := redistest.Start(t), t.TempDir()
	for _, c := range []struct {
		args   []string
		code   int
		reason string
	}{
		{nil, 0, "ok"},
		{[]string{"--memory-limit", "1kb"}, 2, "memory"},
		{[]string{"--quiet"}, 0, "ok"},
		{[]string{"-u", "redis://127.0.0.1:1/0"}, 3, "unreachable"},
		{[]string{"--no-such-flag"}, 3, "usage"},
		{[]string{"-p", filepath.Join(home, "none.yaml")}, 3, "policy"},
	} {
		got := call(t, s, home, append([]string{"check", "-o", "json"}, c.args...)...)
		var r health.Report
		decoder := json.NewDecoder(strings.NewReader(got.out))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&r); err != nil || decoder.More() {
			t.Errorf("check %v: %v: %s", c.args, err, got.out)
		}
		if r.Schema != "redis-janitor/check/v1" || r.Command != "check" || r.Message == "" || r.Reason != c.reason || r.ExitCode != c.code || got.code != c.code || int(r.Outcome) != c.code {
			t.Errorf("check %v: exit %d, %+v", c.args, got.code, r)
		}
		for _, field := range []string{"nodes", "alerts", "warnings"} {
			if strings.Contains(got.out, `"`+field+`": null`) {
				t.Errorf("check %v: %s is null rather than empty", c.args, field)
			}
		}
	}
}

func TestCheckKeepsItsHistoryInTheUsersCacheUnlessToldOtherwise(t *testing.T) {
	s, home := redistest.Start(t), t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "history.json")
	for _, place := range []struct {
		file string
		args []string
	}{
		{filepath.Join(home, ".cache", "redis-janitor", "check.json"), []string{"check"}},
		{elsewhere, []string{"check", "--state", elsewhere}},
	} {
		if got := call(t, s, home, place.args...); !strings.Contains(got.out, "no history yet") {
			t.Errorf("the first check: %s", got.out)
		}
		if _, err := os.Stat(place.file); err != nil {
			t.Error(err)
		}
		if got := call(t, s, home, place.args...); strings.Contains(got.out, "no history yet") || got.err != "" {
			t.Errorf("the second check: %s%s", got.out, got.err)
		}
	}
	for _, nowhere := range []string{"", filepath.Join(home, "gone")} {
		if got := call(t, s, nowhere, "check"); got.code != 0 || !strings.Contains(got.err, "--state") {
			t.Errorf("home %q: %+v", nowhere, got)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "gone")); err == nil {
		t.Error("it made itself a home")
	}
}

func TestAQuietCheckSpeaksOnlyOfTrouble(t *testing.T) {
	s, home := redistest.Start(t), t.TempDir()
	if got := call(t, s, home, "check", "-q"); got != (called{}) {
		t.Errorf("all is well, and still: %+v", got)
	}
	if got := call(t, s, home, "check", "-q", "--memory-limit", "1kb"); got.code != 2 || strings.Count(got.out, "\n") != 1 {
		t.Errorf("%+v", got)
	}
}

func TestACheckThatNobodyReadsIsUnknown(t *testing.T) {
	s := redistest.Start(t)
	for _, args := range [][]string{{"check"}, {"check", "-o", "json"}, {"check", "--bogus"}} {
		var complaints bytes.Buffer
		code := Run(t.Context(), System{Args: args, Out: closedPipe{}, Err: &complaints, Now: time.Now,
			Environ: []string{"HOME=" + t.TempDir(), "REDIS_URL=" + s.URL()}, Root: os.DirFS("/")})
		if code != int(health.Unknown) || !strings.Contains(complaints.String(), "broken pipe") {
			t.Errorf("%v: exit %d: %s", args, code, complaints.String())
		}
	}
}

func TestEveryCommandThatLooksAtRedisWritesMetrics(t *testing.T) {
	s, home := redistest.Start(t), t.TempDir()
	for _, command := range []string{"plan", "dry-run", "execute", "check"} {
		file := filepath.Join(home, "janitor.prom")
		for _, want := range []string{" 1\n", " 2\n"} {
			if got := call(t, s, home, command, "--metrics-file", file); got.code != janitor.ExitRefused && got.code != 0 || strings.Contains(got.err, "metrics") {
				t.Errorf("%s: %+v", command, got)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if runs := regexp.MustCompile(`redis_janitor_runs_total\{command="` + command + `",.*\}` + want); !runs.Match(text) {
				t.Errorf("%s was not counted as%s:\n%s", command, want, text)
			}
		}
	}
}

func TestAPolicyThatCannotBeReadShowsInTheMetrics(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, "janitor.prom")
	for command, code := range map[string]int{"execute": janitor.ExitPolicy, "check": 3} {
		if got := call(t, nil, home, command, "-p", filepath.Join(home, "none.yaml"), "--metrics-file", file); got.code != code {
			t.Errorf("%+v", got)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`runs_total{command="execute",outcome="refused",reason="policy"} 1`, `runs_total{command="check",outcome="unknown",reason="policy"} 1`,
		`last_run_exit_code{command="execute"} 78`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is missing from\n%s", want, text)
		}
	}
}

func TestARunThatWasStoppedHasMetricsToo(t *testing.T) {
	s, home := redistest.Start(t), t.TempDir()
	ctx, stop := context.WithCancelCause(t.Context())
	stop(&janitor.Signal{Name: "SIGTERM", Exit: janitor.ExitTerminate})
	file := filepath.Join(home, "janitor.prom")
	for command, want := range map[string]int{"plan": janitor.ExitTerminate, "check": int(health.Unknown)} {
		code := Run(ctx, System{Args: []string{command, "--metrics-file", file}, Out: io.Discard, Err: io.Discard, Now: time.Now,
			Environ: []string{"HOME=" + home, "REDIS_URL=" + s.URL()}, Root: os.DirFS("/"), LockDir: home})
		text, err := os.ReadFile(file)
		if code != want || err != nil || !regexp.MustCompile(`runs_total\{command="`+command+`",outcome="[a-z]+",reason="interrupted"\} 1`).Match(text) {
			t.Errorf("%s: exit %d, %v:\n%s", command, code, err, text)
		}
	}
}

func TestMetricsThatCannotBeWrittenDoNotSpoilAGoodEviction(t *testing.T) {
	s, home := redistest.Start(t), t.TempDir()
	if err := s.Client().Set(t.Context(), "ml_results:1", "v", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(home, "no such folder", "janitor.prom")
	got := call(t, s, home, "execute", "--yes", "--level", "cleanup", "--target", "none", "--metrics-file", nowhere, "-o", "json")
	var r janitor.Report
	if err := json.Unmarshal([]byte(got.out), &r); err != nil {
		t.Fatalf("%v: %s", err, got.out)
	}
	if got.code != 0 || r.ExitCode != 0 || r.Totals.Evicted != 1 {
		t.Errorf("exit %d, %+v", got.code, r.Totals)
	}
	warned := func(code string, warnings []janitor.Warning) bool {
		for _, w := range warnings {
			if w.Code == code {
				return true
			}
		}
		return false
	}
	if !warned("metrics_unwritten", r.Warnings) || !strings.Contains(got.err, "metrics file could not be written") {
		t.Errorf("nothing is said: %v, stderr %q", r.Warnings, got.err)
	}
	got = call(t, s, home, "check", "-o", "json", "--metrics-file", nowhere)
	var c health.Report
	if err := json.Unmarshal([]byte(got.out), &c); err != nil || got.code != 0 || !warned("metrics_unwritten", c.Warnings) {
		t.Errorf("%v: %+v", err, got)
	}
	corrupt := filepath.Join(home, "janitor.prom")
	if err := os.WriteFile(corrupt, []byte("redis_janitor_runs_total {"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := call(t, s, home, "plan", "--metrics-file", corrupt); got.code != 0 || !strings.Contains(got.err, "begin at 0 again") {
		t.Errorf("a corrupt file: %+v", got)
	}
}
