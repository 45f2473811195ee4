package janitor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// into has a run keep what it deletes.
func into(file string) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Capsule, r.CapsuleMaxValue = file, janitor.CapsuleValue }
}

// putBack puts a capsule back.
func putBack(t *testing.T, s *redistest.Server, file string, change ...func(*janitor.RestoreRequest)) *janitor.Report {
	t.Helper()
	return putBackBy(t.Context(), t, s, file, change...)
}

func putBackBy(ctx context.Context, t *testing.T, s *redistest.Server, file string, change ...func(*janitor.RestoreRequest)) *janitor.Report {
	t.Helper()
	ask := janitor.RestoreRequest{Version: "test", File: file, Confirmed: true,
		Connection: keyspace.Options{URLs: []string{s.URL()}, Password: s.Password, ConnectTimeout: 5 * time.Second, CommandTimeout: 30 * time.Second}}
	for _, c := range change {
		c(&ask)
	}
	r := checked(t, janitor.PutBack(ctx, ask, host(t.TempDir())))
	if c := r.Restore; c == nil || c.Keys != c.Restored+c.Exists+c.Expired+c.Stayed+c.Unselected+c.Unfit+c.Uncertain+c.NotReached {
		t.Errorf("the counts don't add up: %+v", c)
	}
	return r
}

func rehearsed(r *janitor.RestoreRequest)    { r.DryRun = true }
func replacing(r *janitor.RestoreRequest)    { r.Replace = true }
func withFullTTL(r *janitor.RestoreRequest)  { r.FullTTL = true }
func intoAnyDB(r *janitor.RestoreRequest)    { r.AnyDB = true }
func notConfirmed(r *janitor.RestoreRequest) { r.Confirmed = false }
func only(glob string) func(*janitor.RestoreRequest) {
	return func(r *janitor.RestoreRequest) { r.Match = []string{glob} }
}

// taking is how capsules are filled here: all that the policy lets go.
func taking(file string) []func(*janitor.Request) {
	return []func(*janitor.Request){atLevel(ttlpolicy.Force), noTarget, calm, fast, into(file)}
}

// plantTypes plants keys of every type and way of keeping one, most with a TTL of many minutes, some with none.
func plantTypes(t *testing.T, c *redis.Client, n int) {
	t.Helper()
	script := `
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
  local key, kind, call = 'ml_results:' .. i, i % 14, redis.call
  local long = string.rep('value ' .. i, 12)
  if kind == 0 then call('SET', key, i)
  elseif kind == 1 then call('SET', key, long)
  elseif kind == 2 then call('SET', key, 'short')
  elseif kind == 3 then call('HSET', key, 'a', i, 'b', 'x')
  elseif kind == 4 then for j = 1, (i % 5 == 0) and 140 or 2 do call('HSET', key, 'f' .. j, long) end
  elseif kind == 5 then call('RPUSH', key, i, 'b', long)
  elseif kind == 6 then for j = 1, (i % 5 == 0) and 300 or 3 do call('RPUSH', key, j .. long) end
  elseif kind == 7 then call('SADD', key, i, i + 1, i + 2)
  elseif kind == 8 then for j = 1, (i % 5 == 0) and 140 or 2 do call('SADD', key, 'm' .. j .. i) end
  elseif kind == 9 then call('ZADD', key, i, 'a', 1.5, 'b', '-inf', 'c')
  elseif kind == 10 then for j = 1, (i % 5 == 0) and 140 or 2 do call('ZADD', key, j / 3, 'm' .. j .. i) end
  elseif kind == 11 then
    for j = 1, 3 do call('XADD', key, '1-' .. j, 'field', long) end
    call('XGROUP', 'CREATE', key, 'group', '0') call('XREADGROUP', 'GROUP', 'group', 'someone', 'COUNT', '1', 'STREAMS', key, '>')
  elseif kind == 12 then call('PFADD', key, i, i + 1, 'x')
  else call('SET', key, string.char(0, 255, 10, 13) .. i) call('SETBIT', key, 100, 1) end
  if i % 10 ~= 0 then call('PEXPIRE', key, 1800000 + (i * 7919) % 5000000) end
end`
	for at := 0; at < n; at += 2000 {
		if err := c.Eval(t.Context(), script, nil, at, min(at+2000, n)).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
	}
}

// familyKeys is what there is of a snapshot without the janitor's own keys.
func familyKeys(t *testing.T, c *redis.Client) map[string]redistest.Key {
	t.Helper()
	keys := redistest.Snapshot(t.Context(), c)
	maps.DeleteFunc(keys, func(name string, _ redistest.Key) bool { return strings.HasPrefix(name, "redis-janitor") })
	return keys
}

func expectSameKeys(t *testing.T, got, want map[string]redistest.Key) {
	t.Helper()
	wrong := 0
	for name, key := range want {
		if got[name] != key {
			if wrong++; wrong < 5 {
				t.Errorf("%q was %+v and is %+v", name, key, got[name])
			}
		}
	}
	if len(got) != len(want) || wrong > 0 {
		t.Errorf("%d keys, want %d; %d differ", len(got), len(want), wrong)
	}
}

func TestEvicted200000KeysOfAllTypesComeBackWithTheirValuesAndExpiryTimes(t *testing.T) {
	const n = 200_000
	s := redistest.Start(t)
	c := s.Client()
	plantTypes(t, c, n)
	before := familyKeys(t, c)
	file := filepath.Join(t.TempDir(), "c")
	r := clean(t, s, taking(file)...)
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	if left := familyKeys(t, c); len(left) > 0 || r.Totals.Evicted != n || r.Capsule == nil || r.Capsule.Keys < n {
		t.Fatalf("%d keys are left, %d went, %+v", len(left), r.Totals.Evicted, r.Capsule)
	}
	s.ResetStats()
	r = putBack(t, s, file, rehearsed)
	expect(t, r, janitor.Planned, janitor.Complete, janitor.ExitDone)
	if dbSize(t, c) > 1 || r.Restore.Restored != n {
		t.Errorf("rehearsing wrote: %d keys; it says %+v", dbSize(t, c), r.Restore)
	}
	for _, writing := range []string{"restore", "evalsha", "unlink", "set"} {
		if sent := s.CommandStats(t.Context())[writing]; sent > 0 {
			t.Errorf("rehearsing sent %s", writing)
		}
	}
	r = putBack(t, s, file)
	expect(t, r, janitor.Restored, janitor.Complete, janitor.ExitDone)
	if r.Restore.Restored != n || *r.Capsule.Complete != true {
		t.Errorf("%+v", r.Restore.RestoreCounts)
	}
	expectSameKeys(t, familyKeys(t, c), before)
	r = putBack(t, s, file)
	expect(t, r, janitor.Nothing, janitor.NothingLeft, janitor.ExitDone)
	if r.Restore.Exists != n {
		t.Errorf("once more: %+v", r.Restore.RestoreCounts)
	}
}

// boundEvictions has do see the keys of each batch that a capsule holds, before the server deletes them.
func boundEvictions(p *redistest.FaultProxy, do func(keys []string)) {
	var one sync.Mutex
	p.Answer(func(cmd []string) (string, bool) {
		if keys := boundEviction(cmd); keys != nil {
			one.Lock()
			defer one.Unlock()
			do(keys)
		}
		return "", false
	})
}

// boundEviction returns the keys of a batch that may go only as they were captured, nil of every other command.
func boundEviction(cmd []string) []string {
	keys := evictionKeys(cmd)
	if keys == nil {
		return nil
	}
	named, _ := strconv.Atoi(cmd[2]) // evictionKeys has read it
	if argv := cmd[3+named:]; len(argv) <= 13 || argv[13] == "" {
		return nil
	}
	return keys
}

func TestAKeyThatChangesBetweenItsCopyAndItsDeletionStays(t *testing.T) {
	inBothWays(t, func(t *testing.T, all func(*janitor.Request)) {
		s := redistest.Start(t)
		c := s.Client()
		plantTypes(t, c, 3000)
		changes := [][]any{
			{"SET", "%", "another value", "KEEPTTL"}, {"PEXPIRE", "%", 7_100_000}, {"PERSIST", "%"}, {"PEXPIRE", "%", 60_000},
			{"DEL", "%"}, {"SET", "%", "another type", "PX", 5_000_000},
		}
		changed, gone := map[string]bool{}, map[string]bool{}
		proxy := redistest.Proxy(t, s.Addr)
		boundEvictions(proxy, func(keys []string) {
			for i, key := range keys {
				if i%3 != 0 {
					continue
				}
				change := append([]any{}, changes[len(changed)%len(changes)]...)
				change[1] = key
				if change[0] == "PERSIST" && c.PTTL(t.Context(), key).Val() < 0 {
					continue
				}
				changed[key] = true
				gone[key] = change[0] == "DEL"
				if err := c.Do(t.Context(), change...).Err(); err != nil {
					t.Error(err)
				}
			}
		})
		file := filepath.Join(t.TempDir(), "c")
		r := clean(t, s, append(taking(file), all, through(proxy))...)
		after := familyKeys(t, c)
		deleted := int64(0)
		for key := range changed {
			if _, there := after[key]; there == gone[key] {
				t.Errorf("%q is there: %t, was deleted by somebody else: %t", key, there, gone[key])
			}
			if gone[key] {
				deleted++
			}
		}
		if n := r.Totals; n.Refreshed != int64(len(changed))-deleted || n.Vanished < deleted || n.Vanished > deleted+twice || len(changed) < 200 {
			t.Errorf("%d were changed and %d deleted; the report says %+v", len(changed), deleted, r.Totals)
		}
		back := putBack(t, s, file, replacing)
		if back.Restore.Stayed != int64(len(changed)) {
			t.Errorf("%d of %d changed keys were left alone: %+v", back.Restore.Stayed, len(changed), back.Restore.RestoreCounts)
		}
		now := familyKeys(t, c)
		for key := range changed {
			if now[key] != after[key] {
				t.Errorf("%q was %+v and is %+v", key, after[key], now[key])
			}
		}
	})
}

func TestKilledAtAnyMomentWhatIsGoneIsInTheCapsule(t *testing.T) {
	const kills = 60
	binary := build(t)
	s, other := redistest.Start(t), redistest.Start(t)
	c := s.Client()
	halfway := 0
	for i := range kills {
		do(t, c, []any{"FLUSHDB"})
		do(t, other.Client(), []any{"FLUSHDB"})
		plantTypes(t, c, 4000)
		before := familyKeys(t, c)
		file := filepath.Join(t.TempDir(), "c")
		// The rate has the deletions take a third of a second at least, however fast the machine is.
		p := start(t, binary, s.Addr, t.TempDir(), "--capsule", file, "--ignore-cooldown", "--pace", "balanced", "--max-rate", "12000")
		p.killAfter(t, time.Duration(5+i*6)*time.Millisecond, i%5 > 0, c)
		left := familyKeys(t, c)
		gone := len(before) - len(left)
		if gone > 0 && len(left) > 0 {
			halfway++
		}
		if _, err := os.Stat(file); err != nil && gone == 0 {
			continue
		}
		r := putBack(t, other, file)
		if r.Outcome == janitor.Refused && gone == 0 {
			continue // killed while it wrote the header
		}
		back := familyKeys(t, other.Client())
		for name, key := range before {
			_, there := left[name]
			copied, stored := back[name]
			if !there && !stored {
				t.Errorf("kill %d: %q is gone and not in the capsule", i, name)
			}
			if stored && copied != key {
				t.Errorf("kill %d: %q was %+v and came back as %+v", i, name, key, copied)
			}
		}
		if t.Failed() {
			t.Fatalf("%d of %d keys were gone; %s", gone, len(before), r.Message)
		}
		// Where it is not known whether a key was deleted, what is there stays.
		if r = putBack(t, s, file, replacing); r.Restore.Restored < int64(gone) {
			t.Errorf("kill %d: %d were gone, %+v", i, gone, r.Restore.RestoreCounts)
		}
		expectSameKeys(t, familyKeys(t, c), before)
	}
	t.Logf("%d of %d were killed half-way", halfway, kills)
	if halfway < kills/5 {
		t.Error("that shows little")
	}
}

func TestAFullDiskDeletesNothingThatIsNotStored(t *testing.T) {
	binary := build(t)
	for _, blocks := range []int{1, 8, 60, 200} { // of 512 bytes, as the shell counts
		t.Run(fmt.Sprint(blocks), func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			plantTypes(t, c, 20_000)
			before := familyKeys(t, c)
			file := filepath.Join(t.TempDir(), "c")
			p := prepare("sh", s.Addr, t.TempDir())
			args := append([]string{"sh", "-c", fmt.Sprintf(`ulimit -f %d; exec "$0" "$@"`, blocks), binary}, p.Args[1:]...)
			p.Args = append(args, "--capsule", file)
			p.Stdout, p.Stderr = &p.stdout, &p.stderr
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			r := p.end(t)
			left := familyKeys(t, c)
			want := janitor.ExitFailed
			if len(left) == len(before) {
				want = janitor.ExitNoServer
			}
			expect(t, r, janitor.Failed, janitor.File, want)
			if !strings.Contains(r.Message, file) || r.Hint == "" {
				t.Errorf("%s (%s)", r.Message, r.Hint)
			}
			// Into 4 KiB a first batch may go or may not, by the random values in it.
			if blocks > 8 && len(left) == len(before) {
				t.Error("nothing was deleted")
			}
			if len(left) < len(before) {
				putBack(t, s, file)
			}
			expectSameKeys(t, familyKeys(t, c), before)
		})
	}
}

func TestACapsuleThatIsFullEndsTheRun(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantTypes(t, c, 20_000)
	before := familyKeys(t, c)
	file := filepath.Join(t.TempDir(), "c")
	r := clean(t, s, append(taking(file), func(r *janitor.Request) { r.CapsuleMax = 200 << 10 })...)
	expect(t, r, janitor.Incomplete, janitor.CapsuleFull, janitor.ExitIncomplete)
	info, err := os.Stat(file)
	if err != nil || info.Size() > 200<<10 || r.Totals.Evicted == 0 || r.Capsule.Bytes != info.Size() {
		t.Errorf("%v, %v, %+v", err, info, r.Totals)
	}
	expect(t, putBack(t, s, file), janitor.Restored, janitor.Complete, janitor.ExitDone)
	expectSameKeys(t, familyKeys(t, c), before)
}

func TestACapsuleThatHoldsNothingIsFullAndEndsTheRun(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantTypes(t, c, 2000)
	before := dbSize(t, c)
	for _, most := range []int64{1, 1100, 2048} { // less than its header, its end and its first block take
		r := clean(t, s, append(taking(filepath.Join(t.TempDir(), "c")), func(r *janitor.Request) { r.CapsuleMax = most })...)
		expect(t, r, janitor.Incomplete, janitor.CapsuleFull, janitor.ExitIncomplete)
		if n := dbSize(t, c); n != before || !strings.Contains(r.Message, "nothing was deleted") {
			t.Errorf("--capsule-max %d: %d keys went: %s", most, before-n, r.Message)
		}
	}
}

func TestADamagedCapsuleIsRestoredAsFarAsItIsWhole(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantTypes(t, c, 3000)
	before := familyKeys(t, c)
	file := filepath.Join(t.TempDir(), "c")
	clean(t, s, taking(file)...)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		name   string
		damage func() []byte
		code   string
	}{
		{"a byte in the middle", func() []byte { b := append([]byte{}, text...); b[len(b)/2] ^= 1; return b }, "capsule_damaged"},
		{"the header", func() []byte { b := append([]byte{}, text...); b[3] ^= 1; return b }, "capsule_damaged"},
		{"cut short", func() []byte { return text[:len(text)*2/3] }, "capsule_unfinished"},
	} {
		t.Run(d.name, func(t *testing.T) {
			do(t, c, []any{"FLUSHDB"})
			if err := os.WriteFile(file, d.damage(), 0o600); err != nil {
				t.Fatal(err)
			}
			r := putBack(t, s, file)
			expect(t, r, janitor.Incomplete, janitor.CapsuleDamaged, janitor.ExitIncomplete)
			expectWarning(t, r, d.code)
			if *r.Capsule.Complete || d.code == "capsule_damaged" && (len(r.Capsule.Damage) != 1 || r.Capsule.Damage[0].To <= r.Capsule.Damage[0].From) {
				t.Errorf("%+v", r.Capsule)
			}
			after := familyKeys(t, c)
			if len(after) < len(before)/3 || d.name == "the header" && len(after) != len(before) {
				t.Errorf("%d of %d came back", len(after), len(before))
			}
			for name, key := range after {
				if before[name] != key {
					t.Errorf("%q was %+v and came back as %+v", name, before[name], key)
				}
			}
		})
	}
}

func TestLargeValuesStayAndTheServerIsNotHeldForThem(t *testing.T) {
	inBothWays(t, func(t *testing.T, all func(*janitor.Request)) {
		s := redistest.Start(t)
		c := s.Client()
		plantTypes(t, c, 500)
		for i := range 20 {
			do(t, c, []any{"SET", fmt.Sprint("ml_results:large", i), strings.Repeat("x", janitor.CapsuleValue+i), "PX", 60_000 + i})
			do(t, c, []any{"SET", fmt.Sprint("ml_results:medium", i), strings.Repeat("x", janitor.CapsuleValue*3/4), "PX", 60_000 + i})
		}
		file := filepath.Join(t.TempDir(), "c")
		r := clean(t, s, append(taking(file), all)...)
		if kept := r.Nodes[0].Families[0].Kept.TooLarge; kept < 20 || kept > 20+twice || countKeys(t, c, "ml_results:large*") != 20 || countKeys(t, c, "ml_results:medium*") != 0 {
			t.Errorf("%d were too large; %s", kept, r.Message)
		}
	})
}

func TestIdleTimesAreJudgedBeforeReadingBeginsThemAnew(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantTypes(t, c, 2)
	payload := c.Dump(t.Context(), "ml_results:1").Val() // small numbers are one object for all keys, idle time and all
	do(t, c, []any{"FLUSHDB"})
	plant(t, c, func(p *planter) {
		for i := range 600 {
			idle := 3600
			if i%3 == 0 {
				idle = 60
			}
			p.do("RESTORE", "ml_results:"+strconv.Itoa(i), 6_000_000, payload, "IDLETIME", idle)
		}
	})
	file := filepath.Join(t.TempDir(), "c")
	r := clean(t, s, append(taking(file), func(r *janitor.Request) { r.Policy.Families[0].Rule.MinIdle = 30 * time.Minute })...)
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	if r.Totals.Evicted != 400 || r.Nodes[0].Families[0].Kept.NotIdle != 200 {
		t.Errorf("%+v, %+v", r.Totals, r.Nodes[0].Families[0].Kept)
	}
	for i := 0; i < 600; i += 3 {
		if idle := c.ObjectIdleTime(t.Context(), "ml_results:"+strconv.Itoa(i)).Val(); idle < time.Minute {
			t.Fatalf("a key that stays was touched: it is idle for %s", idle)
		}
	}
}

func TestACapsuleHasTheNamesOfWhatItHolds(t *testing.T) {
	s := redistest.Start(t)
	plantTypes(t, s.ClientDB(2), 300)
	file := filepath.Join(t.TempDir(), "c")
	r := clean(t, s, append(taking(file), inDB(s, 2))...)
	got, err := capsule.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if h := got.Header; h.DB != 2 || h.Server != r.Nodes[0].Server || h.Policy != "combot" ||
		h.RunID != r.Nodes[0].RunID || got.Footer.Keys != 300 || got.Footer.Outcome != "evicted" {
		t.Errorf("%+v, %+v", got.Header, got.Footer)
	}
	kinds := map[string]int{}
	for i := range got.Blocks() {
		block, fates, err := got.Block(i)
		if err != nil {
			t.Fatal(err)
		}
		for k, e := range block.Entries {
			kinds[e.Type]++
			if fates[k] != capsule.Evicted || e.TTL > e.ExpiresAt || (e.TTL < 0) != (e.ExpiresAt < 0) || block.Family != "ml-results" {
				t.Errorf("%+v, %q, %s", e, fates[k], block.Family)
			}
		}
	}
	for _, kind := range []string{"string", "hash", "list", "set", "zset", "stream"} {
		if kinds[kind] == 0 {
			t.Errorf("no %s among %v", kind, kinds)
		}
	}
}
