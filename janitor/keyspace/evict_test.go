package keyspace

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/redistest"
)

// pressures are the states of memory in which everything must work alike.
var pressures = []struct {
	name  string
	apply func(t *testing.T, c *redis.Client)
}{
	{"with memory to spare", func(*testing.T, *redis.Client) {}},
	{"out of memory under noeviction", runOutOfMemory},
}

// runOutOfMemory puts maxmemory below what is used, and sees that writing is refused.
func runOutOfMemory(t *testing.T, c *redis.Client) {
	t.Helper()
	do(t, c, cmd("config", "set", "maxmemory-policy", "noeviction"), cmd("config", "set", "maxmemory", "1mb"))
	err := c.Set(t.Context(), "one more", "x", 0).Err()
	if err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Fatalf("a SET beyond maxmemory: %v, want OOM", err)
	}
}

// underPressure runs a test in every state of memory, on a server that has been filled by prepare.
func underPressure(t *testing.T, db int, prepare func(c *redis.Client), test func(t *testing.T, n *Node, c *redis.Client)) {
	t.Helper()
	for _, pressure := range pressures {
		t.Run(pressure.name, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.ClientDB(db)
			do(t, s.Client(), cmd("set", "ballast", strings.Repeat("x", 1<<20)))
			prepare(c)
			pressure.apply(t, c)
			o := options(fmt.Sprintf("redis://%s/%d", s.Addr, db), Evicting)
			test(t, open(t, o), c)
		})
	}
}

func fates(r Removal) string {
	var b strings.Builder
	for _, f := range r.Fates {
		b.WriteByte(byte(f))
	}
	return b.String()
}

func evict(t *testing.T, n *Node, b Batch) Removal {
	t.Helper()
	r, err := n.Evict(t.Context(), b)
	if err != nil {
		t.Fatalf("evicting: %v", err)
	}
	return r
}

func exists(t *testing.T, c *redis.Client, keys ...string) string {
	t.Helper()
	there := ""
	for _, key := range keys {
		n, err := c.Exists(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		there += fmt.Sprint(n)
	}
	return there
}

func TestEveryKeyMeetsItsFate(t *testing.T) {
	binary := "ml:\x00\xff\r\n\"'*? [z]"
	keys := []string{"ml:short", "ml:long", "ml:forever", "ml:gone", "ml:edge", binary, "", "ml:hash"}
	for _, c := range []struct {
		name       string
		persistent bool
		maxTTL     time.Duration
		fates      string
		left       string
	}{
		{"up to a TTL, none without", false, time.Hour, "errveeee", "01100000"},
		{"up to a TTL, and without", true, time.Hour, "ereveeee", "01000000"},
		{"only those without TTL", true, -1, "rrevrrrr", "11001111"},
		{"none at all", false, -1, "rrrvrrrr", "11101111"},
	} {
		t.Run(c.name, func(t *testing.T) {
			underPressure(t, 3, func(r *redis.Client) {
				do(t, r, cmd("set", "ml:short", "v", "px", 600_000), cmd("set", "ml:long", "v", "px", 3_700_000),
					cmd("set", "ml:forever", "v"), cmd("set", "ml:edge", "v", "px", 3_600_000),
					cmd("set", binary, "v", "px", 5_000_000), cmd("pexpire", binary, 500_000), cmd("set", "", "v", "px", 1_000),
					cmd("hset", "ml:hash", "f", "v"), cmd("pexpire", "ml:hash", 1_000_000))
				do(t, r, cmd("pexpire", "", 900_000))
			}, func(t *testing.T, n *Node, r *redis.Client) {
				got := evict(t, n, Batch{Keys: keys, Persistent: c.persistent, MaxTTL: c.maxTTL})
				if fates(got) != c.fates {
					t.Errorf("fates of %q are %s, want %s", keys, fates(got), c.fates)
				}
				if there := exists(t, r, keys...); there != c.left {
					t.Errorf("of %q there are %s, want %s", keys, there, c.left)
				}
				if got.Refusal != nil || got.Measured != 0 {
					t.Errorf("a refusal or sizes that nobody asked for: %+v", got)
				}
			})
		})
	}
}

func TestAKeyRefreshedSinceItWasReadStays(t *testing.T) {
	s := redistest.Start(t)
	n, c := evicting(t, s), s.Client()
	keys := []string{"higher", "persisted", "recreated", "expired", "same"}
	for _, key := range keys {
		do(t, c, cmd("set", key, "v", "px", 60_000))
	}
	facts, err := n.Facts(t.Context(), keys, Ask{})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range facts {
		if f.TTL > time.Minute || f.TTL < 30*time.Second {
			t.Fatalf("TTL of %s is %s", keys[i], f.TTL)
		}
	}
	do(t, c, cmd("pexpire", "higher", 120_000), cmd("persist", "persisted"), cmd("del", "recreated"),
		cmd("set", "recreated", "new", "px", 120_000), cmd("pexpire", "expired", 1))
	for exists(t, c, "expired") == "1" {
		time.Sleep(time.Millisecond)
	}
	if got := fates(evict(t, n, Batch{Keys: keys, MaxTTL: time.Minute})); got != "rrrve" {
		t.Errorf("fates of %v are %s, want rrrve", keys, got)
	}
	if got := exists(t, c, keys...); got != "11100" {
		t.Errorf("of %v there are %s, want 11100", keys, got)
	}
}

func TestOnlyKeysIdleForLongEnoughGo(t *testing.T) {
	s := redistest.Start(t)
	n, c := evicting(t, s), s.Client()
	// RESTORE gives a key an idle time, so that nothing has to be waited for.
	payload := func() string {
		do(t, c, cmd("set", "model", "v"))
		text, err := c.Dump(t.Context(), "model").Result()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}()
	restore := func() {
		do(t, c, cmd("restore", "idle", 60_000, payload, "replace", "idletime", 700),
			cmd("restore", "almost", 60_000, payload, "replace", "idletime", 500),
			cmd("restore", "touched", 60_000, payload, "replace", "idletime", 700), cmd("touch", "touched"))
	}
	keys := []string{"idle", "almost", "touched", "missing"}
	restore()
	batch := Batch{Keys: keys, MaxTTL: time.Hour, MinIdle: 10 * time.Minute, MeasureEach: 1}
	if got := fates(evict(t, n, batch)); got != "errv" {
		t.Errorf("fates of %v are %s, want errv", keys, got)
	}
	restore()
	do(t, c, cmd("config", "set", "maxmemory-policy", "allkeys-lfu"))
	if got := fates(evict(t, n, batch)); got != "rrrv" {
		t.Errorf("under LFU, which tells no idle times, fates of %v are %s, want rrrv", keys, got)
	}
}

func TestAKeyUsedLessThanASecondAgoIsNotIdleForOne(t *testing.T) {
	s := redistest.Start(t)
	n, c := evicting(t, s), s.Client()
	batch := Batch{Keys: []string{"key"}, MaxTTL: time.Hour, MinIdle: time.Second}
	do(t, c, cmd("set", "key", "v", "px", 600_000))
	// The clock that idle times are told by shows whole seconds: wait for it to move on.
	for used := time.Now(); c.ObjectIdleTime(t.Context(), "key").Val() == 0; {
		if time.Since(used) > 900*time.Millisecond {
			do(t, c, cmd("touch", "key"))
			used = time.Now()
		}
	}
	if got := fates(evict(t, n, batch)); got != "r" {
		t.Errorf("a key that was used within the last second met the fate %s, want r", got)
	}
	if facts, err := n.Facts(t.Context(), batch.Keys, Ask{Idle: func(int) bool { return true }}); err != nil || facts[0].Idle != 0 || !facts[0].IdleKnown {
		t.Errorf("it is said to be idle for %s (%v)", facts[0].Idle, err)
	}
}

func TestAnIdleTimeIsAskedForWithASecondToSpare(t *testing.T) {
	for d, want := range map[time.Duration]int64{0: 0, 1: 2, time.Second: 2, time.Second + 1: 3, time.Minute: 61} {
		if got := idleSeconds(d); got != want {
			t.Errorf("%s is %d seconds, want %d", d, got, want)
		}
	}
}

func TestABatchEndsAtItsBytes(t *testing.T) {
	big := strings.Repeat("x", 10_000)
	keys := []string{"a", "b", "c", "d", "e"}
	for _, c := range []struct {
		name           string
		each           int
		budget, assume int64
		fates          string
		measured       int
	}{
		{"no end", 1, 0, 0, "eeeee", 5},
		{"all measured", 1, 21_000, 0, "eeddd", 2},
		{"the first goes whatever its size", 1, 10, 0, "edddd", 1},
		{"none measured, all assumed", 0, 30_000, 10_000, "eeedd", 0},
		{"each second measured", 2, 22_000, 1_000, "eeedd", 1},
		{"exactly full", 0, 20_000, 10_000, "eeddd", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			underPressure(t, 0, func(r *redis.Client) {
				for _, key := range keys {
					do(t, r, cmd("set", key, big, "px", 60_000))
				}
			}, func(t *testing.T, n *Node, r *redis.Client) {
				size, err := r.MemoryUsage(t.Context(), "a").Result()
				if err != nil {
					t.Fatal(err)
				}
				got := evict(t, n, Batch{Keys: keys, MaxTTL: time.Hour, MeasureEach: c.each, MaxBytes: c.budget, AssumeBytes: c.assume})
				if fates(got) != c.fates || got.Measured != c.measured || got.Bytes != size*int64(c.measured) {
					t.Errorf("got %s, %d measured, %d bytes; want %s, %d, %d", fates(got), got.Measured, got.Bytes, c.fates, c.measured, size*int64(c.measured))
				}
				left := strings.NewReplacer("e", "0", "d", "1").Replace(c.fates)
				if there := exists(t, r, keys...); there != left {
					t.Errorf("of %v there are %s, want %s", keys, there, left)
				}
			})
		})
	}
}

func TestOnlyEvictedKeysAreMeasured(t *testing.T) {
	s := redistest.Start(t)
	n, c := evicting(t, s), s.Client()
	do(t, c, cmd("set", "goes", "v", "px", 60_000), cmd("set", "stays", "v"))
	size, err := c.MemoryUsage(t.Context(), "goes").Result()
	if err != nil {
		t.Fatal(err)
	}
	got := evict(t, n, Batch{Keys: []string{"stays", "gone", "goes"}, MaxTTL: time.Hour, MeasureEach: 1})
	if fates(got) != "rve" || got.Measured != 1 || got.Bytes != size {
		t.Errorf("got %s, %d measured, %d bytes; want rve, 1, %d", fates(got), got.Measured, got.Bytes, size)
	}
}

func TestAJanitorWithoutItsLeaseDeletesNothing(t *testing.T) {
	for _, db := range []int{0, 5} {
		t.Run(fmt.Sprintf("DB %d", db), func(t *testing.T) {
			underPressure(t, db, func(c *redis.Client) {
				do(t, c, cmd("set", "a", "v", "px", 60_000), cmd("set", "b", "v", "px", 60_000))
			}, func(t *testing.T, n *Node, c *redis.Client) {
				ctx := t.Context()
				batch := Batch{Keys: []string{"a", "b"}, MaxTTL: time.Hour, LeaseToken: "mine", Cooldown: time.Minute, Mark: "m"}
				fenced := func(state string) {
					t.Helper()
					r, err := n.Evict(ctx, batch)
					if !errors.Is(err, ErrFenced) || fates(r) != "dd" || !strings.Contains(err.Error(), n.Addr()) {
						t.Errorf("%s: %s, %v", state, fates(r), err)
					}
					if exists(t, c, "a", "b") != "11" {
						t.Errorf("%s: a key was deleted", state)
					}
					if left, err := n.CooldownLeft(ctx); left != 0 || err != nil {
						t.Errorf("%s: the cooldown lasts %s: %v", state, left, err)
					}
				}
				take := func(token string) {
					t.Helper()
					if _, ours, err := n.TakeLease(ctx, token, "host", "since", time.Minute, false); err != nil || !ours {
						t.Fatalf("taking the lease: %v, %v", ours, err)
					}
				}
				fenced("never taken")
				take("theirs")
				fenced("taken by another")
				if err := n.ReleaseLease(ctx, "theirs"); err != nil {
					t.Fatal(err)
				}
				fenced("given back by another")
				take("mine")
				if r := evict(t, n, batch); fates(r) != "ee" {
					t.Errorf("with the lease: %s", fates(r))
				}
				if exists(t, c, "a", "b") != "00" {
					t.Error("with the lease: a key is still there")
				}
			})
		})
	}
}

func TestTheCooldownStartsWithTheFirstDeletion(t *testing.T) {
	for _, db := range []int{0, 5} {
		t.Run(fmt.Sprintf("DB %d", db), func(t *testing.T) {
			underPressure(t, db, func(c *redis.Client) {
				do(t, c, cmd("set", "stays", "v"), cmd("set", "goes", "v", "px", 60_000))
			}, func(t *testing.T, n *Node, c *redis.Client) {
				ctx := t.Context()
				batch := Batch{Keys: []string{"stays", "missing"}, MaxTTL: time.Hour, Cooldown: 2 * time.Minute, Mark: "1700000000000 host"}
				if r := evict(t, n, batch); fates(r) != "rv" {
					t.Fatalf("fates are %s, want rv", fates(r))
				}
				if left, err := n.CooldownLeft(ctx); left != 0 || err != nil {
					t.Errorf("nothing was deleted, and the cooldown lasts %s: %v", left, err)
				}
				batch.Keys = append(batch.Keys, "goes")
				if r := evict(t, n, batch); fates(r) != "rve" {
					t.Fatalf("fates are %s, want rve", fates(r))
				}
				if left, err := n.CooldownLeft(ctx); err != nil || left > 2*time.Minute || left < time.Minute {
					t.Errorf("after a deletion the cooldown lasts %s: %v", left, err)
				}
				if mark, err := n.own.Get(ctx, CooldownKey).Result(); err != nil || mark != batch.Mark {
					t.Errorf("the mark in DB 0 is %q: %v", mark, err)
				}
				if db != 0 && exists(t, c, CooldownKey, LeaseKey) != "00" {
					t.Errorf("DB %d holds the janitor's own keys", db)
				}
			})
		})
	}
}

func TestWhatRefusesOneKeyEndsTheBatch(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	// A selector (Redis 7.0) lets the script be given all keys and yet touch only some, as nothing else does.
	do(t, c, cmd("acl", "setuser", "janitor", "on", ">pw", "resetchannels", "~*", "+hello", "+auth", "+info", "+client|setname", "+select",
		"+script|load", "+evalsha", "+hget", "+set", "(~ml:* ~redis-janitor* +pttl +unlink +memory|usage)"))
	keys := []string{"ml:1", "secret", "ml:2"}
	for _, key := range keys {
		do(t, c, cmd("set", key, "v", "px", 60_000))
	}
	n := open(t, options("redis://janitor:pw@"+s.Addr, Evicting))
	r := evict(t, n, Batch{Keys: keys, MaxTTL: time.Hour, MeasureEach: 1, Cooldown: time.Minute})
	if fates(r) != "efd" || r.Measured != 1 {
		t.Errorf("fates are %s with %d measured, want efd and 1", fates(r), r.Measured)
	}
	if e := refused(t, r.Refusal, NoPerm); e.Hint == "" || e.Sent {
		t.Errorf("the refusal is %+v", e)
	}
	if got := exists(t, c, append(keys, CooldownKey)...); got != "0111" {
		t.Errorf("of %v and the cooldown there are %s, want 0111", keys, got)
	}
}

func TestADeletionRefusedOutrightFailsTheFirstKeyOnly(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	do(t, c, cmd("acl", "setuser", "janitor", "on", ">pw", "~*", "+@all", "-unlink"),
		cmd("set", "a", "v", "px", 60_000), cmd("set", "b", "v", "px", 60_000))
	n := open(t, options("redis://janitor:pw@"+s.Addr, Evicting))
	r := evict(t, n, Batch{Keys: []string{"a", "b"}, MaxTTL: time.Hour, Cooldown: time.Minute})
	if fates(r) != "fd" {
		t.Errorf("fates are %s, want fd", fates(r))
	}
	refused(t, r.Refusal, NoPerm)
	if got := exists(t, c, "a", "b", CooldownKey); got != "110" {
		t.Errorf("of both keys and the cooldown there are %s, want 110", got)
	}
}

func TestWhatIsDeletedIsToldThoughTheCooldownCannotBeSet(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	do(t, s.ClientDB(4), cmd("set", "a", "v", "px", 60_000))
	for _, denied := range []string{"-set", "-select"} {
		do(t, c, cmd("acl", "setuser", "janitor", "reset", "on", ">pw", "~*", "+@all"))
		n := open(t, options("redis://janitor:pw@"+s.Addr+"/4", Evicting))
		do(t, c, cmd("acl", "setuser", "janitor", denied))
		do(t, s.ClientDB(4), cmd("set", "a", "v", "px", 60_000))
		r := evict(t, n, Batch{Keys: []string{"a"}, MaxTTL: time.Hour, Cooldown: time.Minute})
		if fates(r) != "e" {
			t.Errorf("with %s: fates are %s, want e", denied, fates(r))
		}
		if exists(t, c, CooldownKey) != "0" || exists(t, s.ClientDB(4), CooldownKey) != "0" {
			t.Errorf("with %s: there is a cooldown", denied)
		}
	}
}

func TestAUserWithoutTheJanitorsOwnKeysCanEvict(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	do(t, c, cmd("acl", "setuser", "janitor", "on", ">pw", "resetchannels", "-@all", "~ml:*", "+ping", "+hello", "+auth", "+select", "+info",
		"+dbsize", "+scan", "+pttl", "+unlink", "+eval", "+evalsha", "+script|load", "+memory|usage", "+client|setname"),
		cmd("set", "ml:1", "v", "px", 60_000))
	n := open(t, options("redis://janitor:pw@"+s.Addr, Evicting))
	_, ours, err := n.TakeLease(t.Context(), "token", "host", "since", time.Minute, false)
	refused(t, err, NoPerm)
	if ours {
		t.Error("the lease is ours though it could not be written")
	}
	_, err = n.CooldownLeft(t.Context())
	refused(t, err, NoPerm)
	for name, b := range map[string]Batch{
		"a lease":    {Keys: []string{"ml:1"}, MaxTTL: time.Hour, LeaseToken: "token"},
		"a cooldown": {Keys: []string{"ml:1"}, MaxTTL: time.Hour, Cooldown: time.Minute},
	} {
		r, err := n.Evict(t.Context(), b)
		refused(t, err, NoPerm)
		if fates(r) != "d" || exists(t, c, "ml:1") != "1" {
			t.Errorf("with %s: fates are %s", name, fates(r))
		}
	}
	if r := evict(t, n, Batch{Keys: []string{"ml:1"}, MaxTTL: time.Hour}); fates(r) != "e" || exists(t, c, "ml:1") != "0" {
		t.Errorf("without lease and cooldown: fates are %s", fates(r))
	}
}

func TestABatchWithAKeyThatMayNotBeNamedIsRefusedAsAWhole(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	do(t, c, cmd("acl", "setuser", "janitor", "on", ">pw", "+@all", "~ml:*"))
	keys := []string{"ml:1", "secret", "ml:2"}
	for _, key := range keys {
		do(t, c, cmd("set", key, "v", "px", 60_000))
	}
	n := open(t, options("redis://janitor:pw@"+s.Addr, Evicting))
	r, err := n.Evict(t.Context(), Batch{Keys: keys, MaxTTL: time.Hour})
	refused(t, err, NoPerm)
	if fates(r) != "ddd" || exists(t, c, keys...) != "111" {
		t.Errorf("fates are %s", fates(r))
	}
}

func TestALostScriptIsLoadedAgain(t *testing.T) {
	s := redistest.Start(t)
	n, c := evicting(t, s), s.Client()
	for i := range 3 {
		do(t, c, cmd("set", "a", "v", "px", 60_000))
		if r := evict(t, n, Batch{Keys: []string{"a"}, MaxTTL: time.Hour}); fates(r) != "e" {
			t.Errorf("run %d: fates are %s", i, fates(r))
		}
		do(t, c, cmd("script", "flush"))
	}
	if loads := s.CommandStats(t.Context())["script|load"]; loads != 3 {
		t.Errorf("SCRIPT LOAD was sent %d times, want once and after each of two flushes", loads)
	}
}

func TestAnEmptyBatchSendsNothing(t *testing.T) {
	s := redistest.Start(t)
	n := evicting(t, s)
	s.ResetStats()
	if r := evict(t, n, Batch{MaxTTL: time.Hour}); len(r.Fates) != 0 {
		t.Errorf("fates are %s", fates(r))
	}
	if stats := s.CommandStats(t.Context()); stats["evalsha"]+stats["script|load"] != 0 {
		t.Errorf("an empty batch sent %v", stats)
	}
}

func TestABatchTellsTheTTLOfEachKeyAndTheSizeOfThoseThatGo(t *testing.T) {
	s := redistest.Start(t)
	n, c := evicting(t, s), s.Client()
	do(t, c, cmd("set", "young", "v", "px", 7_200_000), cmd("set", "forever", "v"), cmd("set", "old", "v", "px", 60_000))
	keys := []string{"young", "forever", "gone", "old"}
	b := Batch{Keys: keys, Persistent: true, MaxTTL: time.Hour, Lifetime: 3 * time.Hour, MeasureEach: 1, Tell: true}
	rehearsed, err := n.Rehearse(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if r := evict(t, n, Batch{Keys: []string{"gone"}, MaxTTL: time.Hour}); r.TTLs != nil || r.Sizes != nil {
		t.Errorf("what nobody asked for: %+v", r)
	}
	evicted := evict(t, n, b)
	for name, r := range map[string]Removal{"a rehearsal": rehearsed, "a batch": evicted} {
		if fates(r) != "oeve" {
			t.Fatalf("%s: %s", name, fates(r))
		}
		for i, want := range [][2]int64{{7_200_000, Untold}, {-1, 1}, {-2, Untold}, {60_000, 1}} {
			ttl, bytes := r.Told(i)
			if ttl > want[0] || ttl < want[0]-60_000 || r.Fates[i] == Gone && bytes < want[1] || name == "a batch" && want[1] == Untold && bytes != Untold {
				t.Errorf("%s: %s has TTL %d and size %d, want %v", name, keys[i], ttl, bytes, want)
			}
		}
	}
	if ttl, bytes := evicted.Told(len(keys)); ttl != Untold || bytes != Untold {
		t.Errorf("of a key that is none: %d, %d", ttl, bytes)
	}
}
