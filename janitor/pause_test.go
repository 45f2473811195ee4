package janitor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

const pauseKey = "redis-janitor:pause"

func pauseFile(path string) func(*janitor.Request) {
	return func(r *janitor.Request) { r.PauseFile = path }
}

func TestWhileThePauseKeyExistsNothingIsEvictedAtAnyLevel(t *testing.T) {
	inEveryPressure(t, func(c *redis.Client) {
		do(t, c, []any{"SET", pauseKey, "2026-11-23T02:10:00Z alice: migration", "EX", 3600})
	}, func(t *testing.T, s *redistest.Server, c *redis.Client) {
		pressed := atRatio(t, c, 0.8)
		all := dbSize(t, c)
		for _, more := range [][]func(*janitor.Request){{}, {atLevel(ttlpolicy.Critical)}, {inDB(s, 3)}, {activeUsers(100)}, {calm}} {
			r := clean(t, s, append(more, pressed, noTarget)...)
			expect(t, r, janitor.Skipped, janitor.Paused, 0) // also before busy and cooldown
			for _, word := range []string{"paused since 2026-11-23T02:10:00Z", `"alice: migration"`, "key " + pauseKey + " on " + s.Addr, "until 20"} {
				if !strings.Contains(r.Message, word) {
					t.Errorf("%q does not say %q", r.Message, word)
				}
			}
			p := r.Pause
			if p == nil || p.From != "key" || p.Where != s.Addr || p.Says != "alice: migration" || p.Since == nil || p.Since.Hour() != 2 {
				t.Fatalf("the report says %+v", p)
			}
			if left := time.Until(*p.Until); left < 58*time.Minute || left > time.Hour {
				t.Errorf("it ends in %s", left)
			}
		}
		expect(t, clean(t, s, pressed, noTarget, failIfSkipped), janitor.Skipped, janitor.Paused, 3)
		for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun} {
			r := clean(t, s, command(cmd), pressed, noTarget)
			expect(t, r, janitor.Planned, janitor.Exhausted, 0)
			expectWarning(t, r, "paused")
		}
		expectWarning(t, clean(t, s, about("ml_results:"+md5Of(1)), pressed, noTarget), "paused")
		if n := dbSize(t, c); n != all {
			t.Errorf("%d keys went in the pause", all-n)
		}
		do(t, c, []any{"DEL", pauseKey})
		r := clean(t, s, pressed, noTarget)
		expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
		if r.Pause != nil {
			t.Errorf("the report speaks of a pause: %+v", r.Pause)
		}
	})
}

func TestAPauseHoldsWhateverItsKeyHolds(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	long := strings.Repeat("long ", 100)
	for _, row := range []struct {
		set         []any
		says        string // of the report
		inMessage   string
		since, ends bool
	}{
		{[]any{"SET", pauseKey, ""}, "", "paused, since when it does not say, nor by whom (key", false, false},
		{[]any{"SET", pauseKey, "2026-11-23T02:10:00+02:00"}, "", "2026-11-23T00:10:00Z", true, false},
		{[]any{"SET", pauseKey, "bob, until the dump is done"}, "bob, until the dump is done", `paused, since when it does not say: "bob`, false, false},
		{[]any{"SET", pauseKey, "\x1b[31mred\x00\xff\nsecond line", "PX", 600_000}, `\x1b[31mred\x00\xff`, `\x1b[31mred`, false, true},
		{[]any{"SET", pauseKey, long}, long[:200], "long", false, false},
		{[]any{"RPUSH", pauseKey, "a"}, "", "by whom cannot be told", false, false},
		{[]any{"HSET", pauseKey, "a", "b"}, "", "WRONGTYPE", false, false},
	} {
		do(t, c, []any{"DEL", pauseKey}, row.set)
		r := clean(t, s, atLevel(ttlpolicy.Critical), noTarget)
		expect(t, r, janitor.Skipped, janitor.Paused, 0)
		if r.Pause == nil || r.Pause.Says != row.says || (r.Pause.Since != nil) != row.since || (r.Pause.Until != nil) != row.ends {
			t.Errorf("%q: %+v", row.set, r.Pause)
		}
		if !strings.Contains(r.Message, row.inMessage) || strings.ContainsFunc(r.Message, func(c rune) bool { return !unicode.IsPrint(c) }) || !utf8.ValidString(r.Message) {
			t.Errorf("%q: %q", row.set, r.Message)
		}
	}
}

func TestAPauseThatMayNotBeReadIsUnknownAndOneWhoseTextMayNotBeReadHolds(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	do(t, c, []any{"SET", pauseKey, "carol"})
	setUser(t, c, "outsider", "on >pw ~ml_results:* ~combot_cache:* ~ballast +@all")
	r := clean(t, s, atLevel(ttlpolicy.Force), noTarget, asUser(s, "outsider"), activeUsers(0), maxKeys(5))
	expect(t, r, janitor.Incomplete, janitor.MaxKeys, 3)
	expectWarning(t, r, "pause_unknown")
	setUser(t, c, "mute", "on >pw ~* +@all -get")
	r = clean(t, s, atLevel(ttlpolicy.Force), noTarget, asUser(s, "mute"), activeUsers(0))
	expect(t, r, janitor.Skipped, janitor.Paused, 0)
	if !strings.Contains(r.Message, "by whom cannot be told") {
		t.Errorf("%q", r.Message)
	}
}

func TestAPauseFileHoldsThisHost(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	dir := t.TempDir()
	file := filepath.Join(dir, "pause")
	run := func() *janitor.Report { return clean(t, s, atLevel(ttlpolicy.Force), noTarget, pauseFile(file)) }
	if err := os.WriteFile(file, []byte("2026-11-23T02:10:00Z dave: disk swap\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run()
	expect(t, r, janitor.Skipped, janitor.Paused, 0)
	if p := r.Pause; p.From != "file" || p.Where != file || p.Says != "dave: disk swap" || p.Since.Minute() != 10 || p.Until != nil || !strings.Contains(r.Message, file) {
		t.Errorf("%+v, %q", p, r.Message)
	}
	// An empty file, and a folder, say at least since when.
	set := time.Now().Add(-time.Hour)
	for _, make := range []func() error{func() error { return os.WriteFile(file, nil, 0o600) }, func() error { return os.Mkdir(file, 0o700) }} {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, set, set); err != nil {
			t.Fatal(err)
		}
		r = run()
		expect(t, r, janitor.Skipped, janitor.Paused, 0)
		if p := r.Pause; p.Says != "" || !p.Since.Equal(set.UTC().Truncate(time.Second)) {
			t.Errorf("%+v", p)
		}
	}
	expectWarning(t, clean(t, s, command(janitor.Plan), atLevel(ttlpolicy.Force), noTarget, pauseFile(file)), "paused")
	// What can't be looked at is no pause, and said.
	r = clean(t, s, atLevel(ttlpolicy.Force), noTarget, pauseFile(filepath.Join(file, strings.Repeat("x", 300))), maxKeys(1))
	expect(t, r, janitor.Incomplete, janitor.MaxKeys, 3)
	expectWarning(t, r, "pause_unknown")
	do(t, c, []any{"DEL", cooldownKey})
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	expect(t, run(), janitor.Evicted, janitor.Exhausted, 0)
}

func TestAPauseThatComesWhileAJanitorWaitsForTheLeaseIsSeen(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	stop := holdLease(t, t.TempDir(), s, c, atLevel(ttlpolicy.Force), noTarget)
	waiting := make(chan *janitor.Report, 1)
	s.ResetStats()
	go func() {
		waiting <- cleanOn(t.Context(), t, t.TempDir(), s, atLevel(ttlpolicy.Critical), noTarget, func(r *janitor.Request) { r.Wait = time.Minute })
	}()
	// It brings its scripts when it is past the pause and before the lease.
	awaitTrue(t, "the other one to come for the lease", func() bool { return s.CommandStats(t.Context())["script|load"] > 0 })
	do(t, c, []any{"SET", pauseKey, "erin"})
	stop()
	expect(t, <-waiting, janitor.Skipped, janitor.Paused, 0)
}

func TestInAClusterAKeyIsExplainedByItsNodeAndOnePauseHoldsAll(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	fillCluster(t, cluster, evenly("ml_results:", 100, time.Hour, time.Hour, bytesEach(100)))
	_, each := keysOfAll(t, cluster)
	var keys, homes []string
	for i, s := range cluster.Masters {
		for key := range each[i] {
			keys, homes = append(keys, key), append(homes, s.Addr)
		}
	}
	run := func(change ...func(*janitor.Request)) *janitor.Report {
		return clean(t, cluster.Masters[0], append(change, atLevel(ttlpolicy.Force), noTarget, ignoreBusy)...)
	}
	r := run(about(append(keys, "ml_results:nobody")...))
	expect(t, r, janitor.Planned, janitor.Explained, 0)
	for i, home := range homes {
		if k := r.Keys[i]; k.Node != home || !verdictAt(t, k, ttlpolicy.Force).Evicts {
			t.Errorf("%s lives on %s: %+v", keys[i], home, k)
		}
	}
	if last := r.Keys[len(keys)]; last.Exists {
		t.Errorf("%+v", last)
	}
	if err := cluster.Client().Set(t.Context(), pauseKey, "frank", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r = run()
		expect(t, r, janitor.Skipped, janitor.Paused, 0)
	}
	if left, _ := keysOfAll(t, cluster); len(left) != 100 || r.Pause.Says != "frank" {
		t.Errorf("%d keys are left; %+v", len(left), r.Pause)
	}
}
