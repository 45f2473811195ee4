package janitor_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// taken evicts some keys of all types into a capsule, and says what they were.
func taken(t *testing.T, n int) (s *redistest.Server, c *redis.Client, file string, before map[string]redistest.Key) {
	t.Helper()
	s = redistest.Start(t)
	c = s.Client()
	plantTypes(t, c, n)
	before = familyKeys(t, c)
	file = filepath.Join(t.TempDir(), "c")
	expect(t, clean(t, s, taking(file)...), janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	do(t, c, []any{"FLUSHDB"}) // the cooldown
	return s, c, file, before
}

func TestAKeyThatExistsNowStaysUnlessItIsToBeReplaced(t *testing.T) {
	s, c, file, before := taken(t, 1000)
	do(t, c, []any{"SET", "ml_results:1", "newer"}, []any{"SADD", "ml_results:2", "newer"})
	newer := familyKeys(t, c)
	for _, dry := range []bool{true, false} {
		r := putBack(t, s, file, func(r *janitor.RestoreRequest) { r.DryRun = dry })
		if r.Restore.Exists != 2 || r.Restore.Restored != 998 || r.ExitCode != 0 {
			t.Errorf("%+v", r.Restore.RestoreCounts)
		}
	}
	after := familyKeys(t, c)
	for name, key := range newer {
		if after[name] != key {
			t.Errorf("%q was %+v and is %+v", name, key, after[name])
		}
	}
	if r := putBack(t, s, file, replacing); r.Restore.Restored != 1000 {
		t.Errorf("%+v", r.Restore.RestoreCounts)
	}
	expectSameKeys(t, familyKeys(t, c), before)
}

func TestWhatWouldHaveExpiredIsLeftOutUnlessItIsToHaveItsFullTTL(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plant(t, c, func(p *planter) {
		for i := range 100 {
			p.set(fmt.Sprint("ml_results:soon", i), 4*time.Second)
			p.set(fmt.Sprint("ml_results:later", i), time.Hour)
			p.set(fmt.Sprint("ml_results:never", i), never)
		}
	})
	file := filepath.Join(t.TempDir(), "c")
	if r := clean(t, s, taking(file)...); r.Totals.Evicted != 300 {
		t.Fatalf("%+v", r.Totals)
	}
	awaitTrue(t, "their time to pass", func() bool {
		return putBack(t, s, file, rehearsed).Restore.Expired == 100
	})
	r := putBack(t, s, file)
	if r.Restore.Expired != 100 || r.Restore.Restored != 200 || countKeys(t, c, "ml_results:soon*") != 0 {
		t.Errorf("%+v", r.Restore.RestoreCounts)
	}
	do(t, c, []any{"FLUSHDB"})
	r = putBack(t, s, file, withFullTTL)
	if r.Restore.Restored != 300 {
		t.Errorf("%+v", r.Restore.RestoreCounts)
	}
	if ttl := c.PTTL(t.Context(), "ml_results:later1").Val(); ttl > time.Hour || ttl < 59*time.Minute {
		t.Errorf("a full TTL of %s", ttl)
	}
	if ttl := c.PTTL(t.Context(), "ml_results:soon1").Val(); ttl == -1 {
		t.Error("what was to expire stays for ever")
	}
	if ttl := c.PTTL(t.Context(), "ml_results:never1").Val(); ttl != -1 {
		t.Errorf("what had no TTL has one of %s", ttl)
	}
}

func TestOnlyWhatIsAskedForComesBack(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plant(t, c, func(p *planter) {
		for i := range 50 {
			p.set(fmt.Sprint("ml_results:a", i), time.Hour)
			p.set(fmt.Sprint("ml_results:b", i), time.Hour)
			p.set(fmt.Sprint("combot_cache:1:", i), time.Minute)
		}
	})
	file := filepath.Join(t.TempDir(), "c")
	clean(t, s, taking(file)...)
	for _, ask := range []struct {
		name   string
		change func(*janitor.RestoreRequest)
		want   int64
	}{
		{"a family", func(r *janitor.RestoreRequest) { r.Families = []string{"app-cache"} }, 50},
		{"a pattern", only("ml_results:a*"), 50},
		{"two patterns", func(r *janitor.RestoreRequest) { r.Match = []string{"ml_results:a1", "ml_results:b[0-4]"} }, 6},
		{"a pattern of a family", func(r *janitor.RestoreRequest) {
			r.Families, r.Match = []string{"ml-results"}, []string{"*1"}
		}, 10},
		{"nothing", only("nothing"), 0},
	} {
		do(t, c, []any{"FLUSHDB"})
		r := putBack(t, s, file, ask.change)
		if r.Restore.Restored != ask.want || dbSize(t, c) != ask.want || r.Restore.Unselected != 150-ask.want || r.ExitCode != 0 {
			t.Errorf("%s: %d keys, %+v", ask.name, dbSize(t, c), r.Restore.RestoreCounts)
		}
	}
	r := putBack(t, s, file, func(r *janitor.RestoreRequest) { r.Families = []string{"nobody"} })
	expect(t, r, janitor.Refused, janitor.Usage, janitor.ExitUsage)
	if !strings.Contains(r.Hint, "app-cache, ml-results") {
		t.Error(r.Hint)
	}
}

func TestARestoreIsRefusedWhereNobodyCanHaveMeantIt(t *testing.T) {
	s, c, file, before := taken(t, 200)
	replica := redistest.StartReplica(t, s)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no capsule"), 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := func(r *janitor.RestoreRequest) { r.Connection.URLs[0] = strings.TrimSuffix(s.URL(), "/0") + "/7" }
	for _, it := range []struct {
		name   string
		s      *redistest.Server
		file   string
		change func(*janitor.RestoreRequest)
		reason janitor.Reason
		exit   int
	}{
		{"without --yes", s, file, notConfirmed, janitor.Guard, janitor.ExitRefused},
		{"another database", s, file, elsewhere, janitor.Guard, janitor.ExitRefused},
		{"a replica", replica, file, replacing, janitor.Replica, janitor.ExitRefused},
		{"no capsule", s, text, replacing, janitor.BadCapsule, janitor.ExitRefused},
		{"no file", s, text + "s", replacing, janitor.Usage, janitor.ExitUsage},
	} {
		r := putBack(t, it.s, it.file, it.change)
		expect(t, r, janitor.Refused, it.reason, it.exit)
		if r.Hint == "" {
			t.Errorf("%s: no hint", it.name)
		}
	}
	if n := dbSize(t, c) + dbSize(t, s.ClientDB(7)); n > 0 {
		t.Errorf("%d keys were written", n)
	}
	expectWarning(t, putBack(t, replica, file, rehearsed), "replica")
	expect(t, putBack(t, s, file, elsewhere, intoAnyDB), janitor.Restored, janitor.Complete, janitor.ExitDone)
	expectSameKeys(t, familyKeys(t, s.ClientDB(7)), before)
}

func TestARestoreThatRedisRefusesSaysWhyAndHowFarItCame(t *testing.T) {
	s, c, file, before := taken(t, 3000)
	proxy := redistest.Proxy(t, s.Addr)
	behind := func(r *janitor.RestoreRequest) { r.Connection.URLs = []string{"redis://" + proxy.Addr + "/0"} }
	refuse := func(after int, answer string) {
		sent := 0
		proxy.Answer(func(cmd []string) (string, bool) {
			if strings.EqualFold(cmd[0], "RESTORE") {
				sent++
				return answer, sent > after
			}
			return "", false
		})
	}
	for _, it := range []struct {
		answer string
		reason janitor.Reason
	}{
		{"-ERR DUMP payload version or checksum are wrong", "dump_version"}, {"-OOM command not allowed when used memory > 'maxmemory'.", "oom"},
		{"-NOPERM this user has no permissions to run the 'restore' command", "noperm"}, {"-READONLY You can't write against a read only replica.", "readonly"},
		{"-MISCONF Redis is configured to save RDB snapshots", "misconf"},
	} {
		for after, exit := range map[int]int{0: janitor.ExitNoServer, 500: janitor.ExitFailed} {
			do(t, c, []any{"FLUSHDB"})
			refuse(after, it.answer+"\r\n")
			r := putBack(t, s, file, behind)
			if r.Reason != it.reason || r.ExitCode != exit || r.Hint == "" {
				t.Errorf("%s after %d: %s, %s, exit %d: %s (%s)", it.reason, after, r.Outcome, r.Reason, r.ExitCode, r.Message, r.Hint)
			}
			if n := dbSize(t, c); n != r.Restore.Restored || after == 0 && n > 0 || after > 0 && r.Outcome != janitor.Failed {
				t.Errorf("%s after %d: %d keys are back, and the report says %+v", it.reason, after, n, r.Restore.RestoreCounts)
			}
			if it.reason == "dump_version" && !strings.Contains(r.Message, "the capsule is from redis 7") {
				t.Error(r.Message)
			}
		}
	}
	do(t, c, []any{"FLUSHDB"})
	refuse(2900, "-ERR Bad data format\r\n")
	r := putBack(t, s, file, behind)
	expect(t, r, janitor.Incomplete, "bad_data", janitor.ExitIncomplete)
	if r.Restore.Unfit != 100 || r.Restore.Restored != 2900 {
		t.Errorf("%+v", r.Restore.RestoreCounts)
	}
	refuse(3000, "")
	expect(t, putBack(t, s, file, behind), janitor.Restored, janitor.Complete, janitor.ExitDone)
	expectSameKeys(t, familyKeys(t, c), before)
}

func TestAServerThatIsFullOfMemoryGetsBackWhatFits(t *testing.T) {
	s, c, file, _ := taken(t, 20_000)
	do(t, c, []any{"CONFIG", "SET", "maxmemory-policy", "noeviction"}, []any{"CONFIG", "SET", "maxmemory", usedMemory(t, c) + 2<<20})
	r := putBack(t, s, file)
	expect(t, r, janitor.Failed, "oom", janitor.ExitFailed)
	if n := dbSize(t, c); n != r.Restore.Restored || n == 0 || n == 20_000 || r.Restore.NotReached == 0 || r.Restore.Exists > 0 {
		t.Errorf("%d keys are back: %+v", n, r.Restore.RestoreCounts)
	}
}

func TestARestoreWhoseReplyIsLostSaysThatKeysMayBeBack(t *testing.T) {
	s, c, file, before := taken(t, 2000)
	proxy := redistest.Proxy(t, s.Addr)
	seen := 0
	proxy.Answer(func(cmd []string) (string, bool) {
		if strings.EqualFold(cmd[0], "RESTORE") {
			if seen++; seen == 300 {
				proxy.DropNextReply("RESTORE")
			}
		}
		return "", false
	})
	r := putBack(t, s, file, func(r *janitor.RestoreRequest) { r.Connection.URLs = []string{"redis://" + proxy.Addr + "/0"} })
	n := dbSize(t, c)
	if r.ExitCode != janitor.ExitFailed || r.Restore.Uncertain == 0 || n < r.Restore.Restored || n > r.Restore.Restored+r.Restore.Uncertain {
		t.Errorf("%d keys are back, exit %d: %+v", n, r.ExitCode, r.Restore.RestoreCounts)
	}
	expect(t, putBack(t, s, file), janitor.Restored, janitor.Complete, janitor.ExitDone)
	expectSameKeys(t, familyKeys(t, c), before)
}

func TestASignalEndsARestoreAfterTheBatchInHand(t *testing.T) {
	s, c, file, before := taken(t, 5000)
	proxy := redistest.Proxy(t, s.Addr)
	ctx, stop := context.WithCancelCause(t.Context())
	seen := 0
	proxy.Answer(func(cmd []string) (string, bool) {
		if strings.EqualFold(cmd[0], "RESTORE") {
			if seen++; seen == 1000 {
				stop(&janitor.Signal{Name: "SIGTERM", Exit: janitor.ExitTerminate})
			}
		}
		return "", false
	})
	r := putBackBy(ctx, t, s, file, func(r *janitor.RestoreRequest) { r.Connection.URLs = []string{"redis://" + proxy.Addr + "/0"} })
	expect(t, r, janitor.Incomplete, janitor.Interrupted, janitor.ExitTerminate)
	if n := dbSize(t, c); n != r.Restore.Restored || n < 1000 || n > 2000 || r.Restore.Uncertain != 0 {
		t.Errorf("%d keys are back: %+v", n, r.Restore.RestoreCounts)
	}
	expect(t, putBack(t, s, file), janitor.Restored, janitor.Complete, janitor.ExitDone)
	expectSameKeys(t, familyKeys(t, c), before)
}

func TestAPersonIsShownWhatWouldComeBackAndAsked(t *testing.T) {
	s, c, file, _ := taken(t, 300)
	for _, yes := range []bool{false, true} {
		env := host(t.TempDir())
		asked := 0
		env.Confirm = func(_ context.Context, plan *janitor.Report) (bool, error) {
			asked++
			if plan.Restore.Restored != 300 || !plan.Restore.DryRun || plan.Outcome != janitor.Planned || dbSize(t, c) != 0 {
				t.Errorf("%+v", plan.Restore)
			}
			return yes, nil
		}
		ask := janitor.RestoreRequest{File: file}
		ask.Connection = request(s).Connection
		r := janitor.PutBack(t.Context(), ask, env)
		if want := map[bool]int{false: janitor.ExitRefused, true: janitor.ExitDone}[yes]; r.ExitCode != want || asked != 1 || (dbSize(t, c) == 300) != yes {
			t.Errorf("answered %t: exit %d, %d keys, %+v", yes, r.ExitCode, dbSize(t, c), r.Restore.RestoreCounts)
		}
	}
}

// TestOfAKeyThatWasTakenTwiceTheLaterValueComesBack: a key that is written anew during a run may go twice.
func TestOfAKeyThatWasTakenTwiceTheLaterValueComesBack(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	file := filepath.Join(t.TempDir(), "c")
	w, err := capsule.Create(file, capsule.Header{}, capsule.ID{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"first", "second"} {
		do(t, c, []any{"SET", "ml_results:1", v, "PX", 3_000_000})
		number, err := w.Add(capsule.Block{Family: "f", Entries: []capsule.Entry{{Key: "ml_results:1", ExpiresAt: time.Now().Add(time.Hour).UnixMilli(), Value: c.Dump(t.Context(), "ml_results:1").Val()}}})
		if err == nil {
			err = w.Settle(number, []capsule.Fate{capsule.Evicted})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(capsule.Footer{}); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][]func(*janitor.RestoreRequest){nil, {replacing}} {
		do(t, c, []any{"FLUSHDB"})
		putBack(t, s, file, change...)
		if v := c.Get(t.Context(), "ml_results:1").Val(); v != "second" {
			t.Errorf("%q came back", v)
		}
	}
}

func TestACapsuleComesIntoAClusterAndBack(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	single, c, file, before := taken(t, 6000)
	r := putBack(t, cluster.Masters[0], file)
	expect(t, r, janitor.Restored, janitor.Complete, janitor.ExitDone)
	if len(r.Nodes) != 3 || r.Restore.Restored != 6000 {
		t.Errorf("%d nodes, %+v", len(r.Nodes), r.Restore.RestoreCounts)
	}
	inCluster := func() map[string]redistest.Key {
		all := map[string]redistest.Key{}
		for _, s := range cluster.Masters {
			for name, key := range familyKeys(t, s.Client()) {
				all[name] = key
			}
		}
		return all
	}
	expectSameKeys(t, inCluster(), before)
	if r := putBack(t, cluster.Masters[1], file, rehearsed); r.Restore.Exists != 6000 {
		t.Errorf("%+v", r.Restore.RestoreCounts)
	}
	back := filepath.Join(t.TempDir(), "back")
	r = clean(t, cluster.Masters[0], taking(back)...)
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	// A table that is still growing has SCAN return some keys twice, which are then taken twice.
	if left := inCluster(); len(left) > 0 || r.Capsule.Keys < 6000 {
		t.Errorf("%d are left; %+v", len(left), r.Capsule)
	}
	do(t, c, []any{"FLUSHDB"})
	expect(t, putBack(t, single, back), janitor.Restored, janitor.Complete, janitor.ExitDone)
	expectSameKeys(t, familyKeys(t, c), before)
}

func TestARunWithACapsuleComesToTheSameAsOneWithout(t *testing.T) {
	stripped := func(r *janitor.Report) string {
		return fmt.Sprintf("%s %s %d %+v", r.Outcome, r.Reason, r.ExitCode, r.Totals.Evicted)
	}
	for _, level := range []ttlpolicy.Level{ttlpolicy.Cleanup, ttlpolicy.Critical} {
		var ends []string
		var left []map[string]redistest.Key
		for _, file := range []string{"", filepath.Join(t.TempDir(), "c")} {
			s := redistest.Start(t)
			plantAll(t, s.Client(), 2)
			changes := []func(*janitor.Request){protectPinned, atLevel(level), noTarget, calm, fast}
			if file != "" {
				changes = append(changes, into(file))
			}
			r := clean(t, s, changes...)
			ends = append(ends, stripped(r))
			keys := familyKeys(t, s.Client())
			for name, key := range keys {
				key.ExpiresAt = 0
				keys[name] = key
			}
			left = append(left, keys)
		}
		if ends[0] != ends[1] {
			t.Errorf("%s: %q", level, ends)
		}
		expectSameKeys(t, left[1], left[0])
	}
}

func TestWhatTheNextExecuteWouldTakeAgainIsToldBeforeItIsPutBack(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	noise := make([]byte, 100<<10) // which DUMP can't compress
	for i := range 40 {
		for at := range noise {
			noise[at] = byte(rand.Uint32())
		}
		do(t, c, []any{"SET", fmt.Sprintf("ml_results:%02d", i), string(noise), "EX", 3600})
	}
	file := filepath.Join(t.TempDir(), "c")
	expect(t, clean(t, s, taking(file)...), janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	// Half of what was taken would fit in below the cleanup threshold.
	limit := (usedMemory(t, c) + 2<<20) * 10 / 6
	judged := func(limit int64) func(*janitor.RestoreRequest) {
		return func(r *janitor.RestoreRequest) {
			r.Policy = janitor.Combot()
			r.Policy.Memory.Limit = janitor.Limit{Bytes: limit}
		}
	}
	for _, it := range []struct {
		name   string
		change []func(*janitor.RestoreRequest)
		says   string // "": nothing
	}{
		{"no policy", nil, ""},
		{"room for all", []func(*janitor.RestoreRequest){judged(2 * limit)}, ""},
		{"room for those asked for", []func(*janitor.RestoreRequest){judged(limit), only("ml_results:0?")}, ""},
		{"room for some", []func(*janitor.RestoreRequest){judged(limit)}, "with up to about 3.9"},
		{"no room", []func(*janitor.RestoreRequest){judged(usedMemory(t, c))}, "not below the cleanup threshold"},
	} {
		r := putBack(t, s, file, append(it.change, rehearsed)...)
		if hasWarning(r, "memory_above_threshold") != (it.says != "") || it.says != "" && !strings.Contains(r.Warnings[0].Message, it.says) {
			t.Errorf("%s: %+v", it.name, r.Warnings)
		}
	}
	// It holds nothing up, and is true.
	expectWarning(t, putBack(t, s, file, judged(limit)), "memory_above_threshold")
	if n := countKeys(t, c, "ml_results:*"); n != 40 {
		t.Errorf("%d keys are back", n)
	}
	bound := func(r *janitor.Request) { r.Policy.Memory.Limit = janitor.Limit{Bytes: limit} }
	if r := clean(t, s, bound, ignoreCooldown); r.Totals.Evicted == 0 {
		t.Errorf("the next execute took nothing: %s", r.Message)
	}
}
