package health

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor/keyspace"
)

// told is a sample at so long after noon.
func told(after time.Duration, runID string, uptime time.Duration, counters map[string]int64) sample {
	seconds := int64(uptime.Seconds())
	return sample{At: noon.Add(after), RunID: runID, UptimeS: &seconds, Counters: counters}
}

func hitsAndMisses(hits, misses int64) map[string]int64 {
	return map[string]int64{hitsField: hits, missesField: misses}
}

func TestWhatAServerCountedIsTakenAgainstTheRightBeginning(t *testing.T) {
	day := 24 * time.Hour
	before := told(0, "a", day, hitsAndMisses(1000, 10))
	noID := told(0, "", day, hitsAndMisses(1000, 10))
	for name, c := range map[string]struct {
		before, now sample
		ok          bool
		change      change
		hits        int64
	}{
		"the same server":             {before, told(time.Minute, "a", day+time.Minute, hitsAndMisses(1050, 10)), true, same, 50},
		"restarted":                   {before, told(time.Minute, "b", 10*time.Second, hitsAndMisses(7, 10)), true, restarted, 7},
		"restarted and busy since":    {before, told(time.Minute, "b", 10*time.Second, hitsAndMisses(5000, 10)), true, restarted, 5000},
		"statistics reset":            {before, told(time.Minute, "a", day+time.Minute, hitsAndMisses(7, 0)), true, reset, 7},
		"reset, and only misses fell": {before, told(time.Minute, "a", day+time.Minute, hitsAndMisses(2000, 9)), true, reset, 2000},
		"another server":              {before, told(time.Minute, "b", 9*day, hitsAndMisses(7, 10)), false, replaced, 0},
		"the clock went back":         {before, told(-time.Minute, "a", day, hitsAndMisses(1050, 10)), false, same, 0},
		"the same moment":             {before, told(0, "a", day, hitsAndMisses(1050, 10)), false, same, 0},
		"no run ID":                   {noID, told(time.Minute, "", day+time.Minute, hitsAndMisses(1050, 10)), true, same, 50},
		"no run ID, restarted":        {noID, told(time.Minute, "", 10*time.Second, hitsAndMisses(5000, 10)), true, restarted, 5000},
		"young, and the same":         {told(0, "", 5*time.Second, hitsAndMisses(1, 0)), told(time.Minute, "", 65*time.Second, hitsAndMisses(3, 0)), true, same, 2},
	} {
		got, ok := between(c.before, c.now)
		if ok != c.ok || got.change != c.change {
			t.Errorf("%s: %v, change %d", name, ok, got.change)
			continue
		}
		if hits, known := got.counted(hitsField); ok && (hits != c.hits || !known) {
			t.Errorf("%s: %d hits, want %d", name, hits, c.hits)
		}
	}
}

func TestACounterThatIsNotToldIsUnknownRatherThanZero(t *testing.T) {
	i, _ := between(told(0, "a", 0, map[string]int64{hitsField: 1}), told(time.Minute, "a", time.Minute, map[string]int64{hitsField: 1, missesField: 5}))
	if r := i.report(); r.Misses != nil || r.HitRate != nil || r.Hits == nil || *r.Hits != 0 || r.MeanUS != nil {
		t.Errorf("made up: %+v", r)
	}
	s := newSample(noon, keyspace.ParseInfo("keyspace_hits:5\r\nevicted_keys:many\r\nuptime_in_seconds:99999999999999\r\n"), nil)
	if want := map[string]int64{hitsField: 5}; !reflect.DeepEqual(s.Counters, want) || s.UptimeS != nil {
		t.Errorf("read %v, uptime %v", s.Counters, s.UptimeS)
	}
}

func TestErrorsAndCommandsAreThoseOfTheInterval(t *testing.T) {
	before := told(0, "a", 0, hitsAndMisses(0, 0))
	before.Errors = map[string]int64{"OOM": 5, "ERR": 1}
	before.Commands = map[string]cost{"get": {10, 100}, "keys": {1, 5000}, "set": {3, 30}}
	now := told(time.Minute, "a", time.Minute, hitsAndMisses(0, 0))
	now.Errors = map[string]int64{"OOM": 5, "ERR": 2, "NOPERM": 9}
	now.Commands = map[string]cost{"get": {20, 140}, "keys": {2, 8000}, "set": {3, 30}, "del": {1, 6}}
	i, _ := between(before, now)
	r := i.report()
	if want := []ErrorReport{{"NOPERM", 9}, {"ERR", 1}}; !reflect.DeepEqual(r.Errors, want) {
		t.Errorf("errors %v, want %v", r.Errors, want)
	}
	if want := []CommandReport{{"keys", 1, 3000}, {"get", 10, 4}, {"del", 1, 6}}; !reflect.DeepEqual(r.Commands, want) {
		t.Errorf("commands %v, want %v", r.Commands, want)
	}
	if r.Calls != 12 || *r.MeanUS != 3046.0/12 {
		t.Errorf("%d calls of %g us, want 12 of %g", r.Calls, *r.MeanUS, 3046.0/12)
	}
}

// seen is one look at a server that uses so much memory.
func seen(after time.Duration, runID string, used int64) observation {
	return observation{addr: "a:1", source: "redis", used: used, sample: told(after, runID, 24*time.Hour+after, nil)}
}

func TestTheTrendIsTheLineThroughTheReadingsOfThisRun(t *testing.T) {
	var h history
	for i := range 20 {
		h = h.with(seen(time.Duration(i)*10*time.Minute, "a", 1_000_000+int64(i)*600_000+int64(i%2)*50))
	}
	perSecond, over, ok := slope(h.Points)
	if !ok || perSecond < 999 || perSecond > 1001 || over != 190*time.Minute {
		t.Errorf("%g bytes a second over %s (%v), want 1000 over 3h10m", perSecond, over, ok)
	}
	restarted := h.with(observation{addr: "a:1", source: "redis", used: 5, sample: told(200*time.Minute, "b", time.Minute, nil)})
	if _, _, ok := slope(restarted.Points); ok || len(restarted.Restarts) != 1 || !restarted.Restarts[0].Equal(noon.Add(199*time.Minute)) {
		t.Errorf("after a restart: %v, restarts %v", restarted.Points, restarted.Restarts)
	}
	other := seen(200*time.Minute, "a", 5)
	other.source = "rss"
	if _, _, ok := slope(h.with(other).Points); ok {
		t.Error("readings of two sources make one trend")
	}
	back := h.with(seen(5*time.Minute, "a", 1_300_000))
	if len(back.Points) != 2 || len(back.Restarts) != 0 {
		t.Errorf("readings from the future stay: %v, restarts %v", back.Points, back.Restarts)
	}
}

func TestTheJanitorsOwnSawtoothIsNoTrend(t *testing.T) {
	var h history
	for i := range 120 {
		h = h.with(seen(time.Duration(i)*3*time.Minute, "a", 5_500_000_000+int64(i%10)*50_000_000))
	}
	perSecond, _, _ := slope(h.Points)
	if in, ok := reaches(6_000_000_000, 6_400_000_000, perSecond); ok && in < 24*time.Hour {
		t.Errorf("%g bytes a second: full in %s", perSecond, in)
	}
}

func TestThresholdsAreForeseenOnlyWithinReason(t *testing.T) {
	for name, c := range map[string]struct {
		used, threshold int64
		perSecond       float64
		in              time.Duration
		ok              bool
	}{
		"ahead":              {500, 800, 0.5, 10 * time.Minute, true},
		"reached":            {800, 800, 0.5, 0, false},
		"falling":            {500, 800, -0.5, 0, false},
		"flat":               {500, 800, 0, 0, false},
		"beyond the horizon": {500, 800, 1e-6, 0, false},
	} {
		if in, ok := reaches(c.used, c.threshold, c.perSecond); in != c.in || ok != c.ok {
			t.Errorf("%s: %s (%v), want %s", name, in, ok, c.in)
		}
	}
}

func TestARestartIsNewsForAnHourAndNotLonger(t *testing.T) {
	h := history{}.with(seen(0, "a", 1))
	h = h.with(observation{addr: "a:1", sample: told(time.Minute, "b", 0, nil)})
	for after, want := range map[time.Duration]int{2 * time.Minute: 1, 60 * time.Minute: 1, 61 * time.Minute: 0} {
		if got := h.with(observation{addr: "a:1", sample: told(after, "b", after-time.Minute, nil)}); len(got.Restarts) != want {
			t.Errorf("after %s: %v, want %d", after, got.Restarts, want)
		}
	}
}

func stateOf(t *testing.T, file string) stateFile {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s stateFile
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheHistoryDoesNotGrowForEver(t *testing.T) {
	var h history
	longest := 0
	for i := range 30_000 { // a check every 5 seconds for 41 hours
		h = h.with(seen(time.Duration(i)*5*time.Second, "a", int64(i)))
		longest = max(longest, len(h.Points))
	}
	if longest > 123 || h.Points[len(h.Points)-1].Used != 29_999 {
		t.Errorf("%d points, the last %v", longest, h.Points[len(h.Points)-1])
	}
	if _, over, _ := slope(h.Points); over < 5*time.Hour {
		t.Errorf("the points cover %s", over)
	}

	file := filepath.Join(t.TempDir(), "check.json")
	for i := range 80 {
		o := seen(time.Duration(i)*time.Minute, "a", 1)
		o.addr = fmt.Sprintf("10.0.0.%d:6379", i)
		if _, _, _, err := remember(t.Context(), file, []observation{o}); err != nil {
			t.Fatal(err)
		}
	}
	if s := stateOf(t, file); len(s.Nodes) != knownNodes || s.Nodes[0].Addr != "10.0.0.79:6379" {
		t.Errorf("%d servers are remembered, the first is %s", len(s.Nodes), s.Nodes[0].Addr)
	}
	if _, _, _, err := remember(t.Context(), file, []observation{seen(40*24*time.Hour, "a", 1)}); err != nil {
		t.Fatal(err)
	}
	if s := stateOf(t, file); len(s.Nodes) != 1 {
		t.Errorf("%d servers are remembered after 40 days", len(s.Nodes))
	}
	codes := map[string]int64{}
	for i := range 1000 {
		codes[fmt.Sprint("CODE", i)] = int64(i)
	}
	if kept := most(codes, knownErrors, func(n int64) int64 { return n }); len(kept) != knownErrors || kept["CODE999"] != 999 {
		t.Errorf("%d error codes are kept", len(kept))
	}
}

func TestAFileThatHoldsSomethingElseStaysAsItIs(t *testing.T) {
	for name, content := range map[string]string{
		"a report":      `{"schema":"redis-janitor/report/v1"}`,
		"not a mapping": `[]`,
		"binary":        "\x00\x01\xff",
		"text":          "root:x:0:0:root:/root:/bin/bash\n",
		"of ours":       "see redis-janitor/check-state/v1",
	} {
		file := filepath.Join(t.TempDir(), "check.json")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := remember(t.Context(), file, []observation{seen(0, "a", 1)}); err == nil || !strings.Contains(err.Error(), "stays") {
			t.Errorf("%s: %v", name, err)
		}
		if still, err := os.ReadFile(file); err != nil || string(still) != content {
			t.Errorf("%s: it holds %q now (%v)", name, still, err)
		}
	}
}

func TestABrokenHistoryIsSetAsideWithAWord(t *testing.T) {
	for name, content := range map[string]string{
		"torn":            `{"schema":"redis-janitor/check-state/v1","nodes":[{"addr":"a:`,
		"torn early":      `{"sch`,
		"zeros":           strings.Repeat("\x00", 4096),
		"another version": `{"schema":"redis-janitor/check-state/v9","nodes":[]}`,
		"wrong types":     `{"schema":"redis-janitor/check-state/v1","nodes":[{"addr":7}]}`,
	} {
		file := filepath.Join(t.TempDir(), "check.json")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		before, after, corrupt, err := remember(t.Context(), file, []observation{seen(0, "a", 1)})
		if err != nil || before[0].known() || !after[0].known() || !strings.Contains(corrupt, "begins anew") {
			t.Errorf("%s: %v, %q", name, err, corrupt)
		}
		if aside, err := os.ReadFile(file + ".corrupt"); err != nil || string(aside) != content {
			t.Errorf("%s: what was there is gone: %q (%v)", name, aside, err)
		}
		before, _, corrupt, err = remember(t.Context(), file, []observation{seen(time.Minute, "a", 1)})
		if err != nil || !before[0].known() || corrupt != "" {
			t.Errorf("%s: the next check knows nothing of this one: %v, %q", name, err, corrupt)
		}
	}
}
