package janitor_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/pace"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// byWaterline has keys judged before their batch, though all that is eligible goes.
func byWaterline(r *janitor.Request) { noTarget(r); r.MaxKeys = 1 << 40 }

// inBothWays runs a test with keys that are judged in their batch, and before it.
func inBothWays(t *testing.T, test func(t *testing.T, all func(*janitor.Request))) {
	t.Helper()
	for name, all := range map[string]func(*janitor.Request){"judged in the batch": noTarget, "judged by a waterline": byWaterline} {
		t.Run(name, func(t *testing.T) { test(t, all) })
	}
}

func TestKeysOfEveryLengthAreToldApart(t *testing.T) {
	inBothWays(t, func(t *testing.T, all func(*janitor.Request)) {
		s := redistest.Start(t)
		c := s.Client()
		stays := map[string]bool{}
		plant(t, c, func(p *planter) {
			p.set("", never)
			stays[""] = true
			for size := 1; size <= 1<<20; size *= 2 {
				for i, fill := range []string{"x", "\x00", "\xff", "\r\n", "*", "ml_results:"} {
					tail := strings.Repeat(fill, size/len(fill)+1)[:size]
					p.set("ml_results:"+tail, never)
					p.set("other"+tail, never)
					stays["other"+tail] = true
					// As long as the prefix and longer, and different in one byte.
					p.set("ml_results"+string(rune('a'+i))+tail, never)
					stays["ml_results"+string(rune('a'+i))+tail] = true
				}
				p.flush()
			}
		})
		n := dbSize(t, c) - int64(len(stays))
		r := clean(t, s, atLevel(ttlpolicy.Force), calm, all)
		expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
		left := allKeys(t, c)
		delete(left, cooldownKey)
		if !maps.Equal(left, stays) || r.Totals.Evicted != n {
			t.Errorf("%d keys are left, %d should stay; %d were evicted, %d should have been", len(left), len(stays), r.Totals.Evicted, n)
		}
	})
}

// Three hundred thousand names of three raw bytes behind a prefix, and as many behind one that differs in its last byte.
func TestNamesThatDifferInOneByteAreToldApart(t *testing.T) {
	inBothWays(t, func(t *testing.T, all func(*janitor.Request)) {
		const n = 300_000
		s := redistest.Start(t)
		c := s.Client()
		name := func(prefix string, i int) string {
			var tail [4]byte
			binary.BigEndian.PutUint32(tail[:], uint32(i)*167)
			return prefix + string(tail[1:])
		}
		script := "for i = ARGV[2], ARGV[3] - 1 do local n = i * 167\n" +
			"redis.call('SET', ARGV[1]..string.char(math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256), 'x') end"
		for _, prefix := range []string{"ml_results:", "ml_results;"} {
			for at := 0; at < n; at += 20_000 {
				if err := c.Eval(t.Context(), script, nil, prefix, at, at+20_000).Err(); err != nil && !errors.Is(err, redis.Nil) {
					t.Fatal(err)
				}
			}
		}
		r := clean(t, s, atLevel(ttlpolicy.Force), calm, fast, all)
		expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
		left := allKeys(t, c)
		if len(left) != n+1 || r.Totals.Evicted != n || !left[cooldownKey] {
			t.Fatalf("%d keys are left and %d were evicted", len(left), r.Totals.Evicted)
		}
		for i := range n {
			if !left[name("ml_results;", i)] {
				t.Fatalf("%q is gone", name("ml_results;", i))
			}
		}
	})
}

// No call of the script deletes more than the pace's bytes and one key, whatever the sizes: strings are freed inline.
func TestABatchDeletesNoMoreBytesThanItsPaceAllowsAndOneKey(t *testing.T) {
	for _, name := range []string{"gentle", "fast"} {
		inBothWays(t, func(t *testing.T, all func(*janitor.Request)) {
			s := redistest.Start(t)
			c := s.Client()
			sizes := map[string]int64{}
			plant(t, c, func(p *planter) {
				for i := range 3000 {
					key := "ml_results:" + strconv.Itoa(i)
					switch {
					case i%100 == 1:
						p.do("SETRANGE", key, (i%5+1)<<20, "x") // 1 to 5 MB
					case i%100 == 2:
						p.do("SETRANGE", key, 100<<10, "x")
					case i%1000 == 3:
						p.do("EVAL", "for i = 1, 50000 do redis.call('HSET', KEYS[1], i, 'some value or other') end return 1", 1, key)
					default:
						p.do("SET", key, value)
					}
					sizes[key] = 0
				}
			})
			largest := int64(0)
			for key := range sizes {
				size, err := c.MemoryUsage(t.Context(), key, 0).Result()
				if err != nil {
					t.Fatal(err)
				}
				sizes[key], largest = size, max(largest, size)
			}
			m := s.Monitor(t)
			r := clean(t, s, atLevel(ttlpolicy.Force), calm, all, func(r *janitor.Request) { r.Pace = name })
			expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
			p, err := pace.For(name, ttlpolicy.Force)
			if err != nil {
				t.Fatal(err)
			}
			var bytes, most int64
			deleted := map[string]bool{}
			for _, call := range m.Calls() {
				switch {
				case call.Name == "EVALSHA":
					bytes = 0
				case call.Name == "UNLINK":
					for _, key := range call.Args {
						bytes += sizes[key]
						deleted[key] = true
					}
					most = max(most, bytes)
				}
			}
			if len(deleted) != 3000 || r.Totals.Evicted != 3000 {
				t.Errorf("%d keys were deleted and %d reported", len(deleted), r.Totals.Evicted)
			}
			// Sampled sizes of hashes are not exact.
			if most > p.Bytes+largest+largest/10 {
				t.Errorf("a batch deleted %s, allowed are %s and one key of %s", ttlpolicy.FormatSize(most), ttlpolicy.FormatSize(p.Bytes), ttlpolicy.FormatSize(largest))
			}
		})
	}
}

// For every four keys that a page of the walk looks at, five new ones come.
func TestAKeyspaceThatGrowsFasterThanTheWalkComesToAnEnd(t *testing.T) {
	inBothWays(t, func(t *testing.T, all func(*janitor.Request)) {
		s := redistest.Start(t)
		c := s.Client()
		loadUp(t, c)
		p := redistest.Proxy(t, s.Addr)
		grown := 0
		p.Answer(func(cmd []string) (string, bool) {
			if !strings.EqualFold(cmd[0], "scan") {
				return "", false
			}
			count, err := strconv.Atoi(cmd[len(cmd)-1])
			if err != nil || !strings.EqualFold(cmd[len(cmd)-2], "count") {
				t.Errorf("SCAN came as %q", cmd)
			}
			do(t, c, []any{"EVAL", "for i = ARGV[1], ARGV[2] - 1 do redis.call('SET', 'ml_results:'..i, 'x', 'EX', 3600) end return 1", 0, grown, grown + count*5/4})
			grown += count * 5 / 4
			return "", false
		})
		r := clean(t, s, atLevel(ttlpolicy.Force), calm, all, through(p))
		expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
		if n := countKeys(t, c, sessionPrefix+"*"); n != 0 {
			t.Errorf("%d keys that were there from the start are left", n)
		}
		if left := dbSize(t, c) - 1; int64(grown)+few-r.Totals.Evicted != left || grown < few {
			t.Errorf("%d keys came, %d were evicted and %d are left", grown+few, r.Totals.Evicted, left)
		}
	})
}

func TestKeysThatExpireUnderTheWalkAreNotCountedAsEvicted(t *testing.T) {
	inBothWays(t, func(t *testing.T, all func(*janitor.Request)) {
		const n = 20_000
		s := redistest.Start(t)
		c := s.Client()
		kept := keepers(t, c)
		sow(t, c, n, 30*time.Millisecond, 6*time.Second, "redis.call('SET', key, 'a session', 'PX', ttl)")
		r := clean(t, s, atLevel(ttlpolicy.Force), calm, all)
		expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
		expired := infoNumber(t, c, "expired_keys")
		if r.Totals.Evicted+expired != n || r.Totals.Evicted == 0 || expired == 0 {
			t.Errorf("of %d keys %d were evicted and %d had expired", n, r.Totals.Evicted, expired)
		}
		expectKept(t, c, kept)
	})
}

func TestARehashUnderTheWalkHidesNoKey(t *testing.T) {
	inBothWays(t, func(t *testing.T, all func(*janitor.Request)) {
		s := redistest.Start(t)
		c := s.Client()
		kept := keepers(t, c)
		loadUp(t, c)
		p := redistest.Proxy(t, s.Addr)
		batches := 0
		onEviction(p, func([]string) {
			// The table grows under the walk to eight times its size, and shrinks again.
			if batches++; batches%20 == 5 {
				for i := range 4 {
					do(t, c, []any{"EVAL", "for i = 1, 5000 do redis.call('SET', 'new:'..ARGV[1]..':'..i, 'x') end return 1", 0, i})
				}
			} else if batches%20 == 15 {
				do(t, c, []any{"EVAL", "for i = 1, 5000 do for n = 0, 3 do redis.call('DEL', 'new:'..n..':'..i) end end return 1", 0})
			}
		})
		r := clean(t, s, atLevel(ttlpolicy.Force), calm, all, through(p))
		expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
		if gone := expectKept(t, c, kept); gone != few || r.Totals.Evicted != few || batches < 20 {
			t.Errorf("%d of %d keys are gone after %d batches; the report says %+v", gone, few, batches, r.Totals)
		}
	})
}

func TestOfSixteenDatabasesOneIsCleaned(t *testing.T) {
	s := redistest.Start(t)
	before := make([]map[string]redistest.Key, 16)
	for db := range before {
		c := s.ClientDB(db)
		plant(t, c, func(p *planter) {
			for i := range 60 {
				p.put(i, "ml_results:"+strconv.Itoa(i), mlAges.ttl(i))
				p.put(i, "user:"+strconv.Itoa(i), never)
			}
		})
		before[db] = redistest.Snapshot(t.Context(), c)
	}
	r := clean(t, s, atLevel(ttlpolicy.Force), calm, noTarget, inDB(s, 7))
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	expectOwnKeys(t, s)
	do(t, s.Client(), []any{"DEL", cooldownKey})
	for db, was := range before {
		left := redistest.Snapshot(t.Context(), s.ClientDB(db))
		switch {
		case db != 7 && !maps.Equal(left, was):
			t.Errorf("DB %d is not what it was", db)
		case db == 7 && (int64(len(was)-len(left)) != r.Totals.Evicted || r.Totals.Evicted == 0):
			t.Errorf("%d keys of DB 7 are gone; the report says %+v", len(was)-len(left), r.Totals)
		}
	}
}

// Keys of an application that bear our names stay as they are, and keep nobody from working.
func TestAnApplicationsKeysUnderOurNamesAreLeftAlone(t *testing.T) {
	for _, key := range []string{leaseKey, cooldownKey} {
		for _, it := range []struct {
			kind    string
			command []any
		}{
			{"list", []any{"RPUSH", key, "a"}},
			{"set", []any{"SADD", key, "a"}},
			{"sorted set", []any{"ZADD", key, 1, "a"}},
			{"hash", []any{"HSET", key, "field", "a"}},
			{"hash that looks like a lease without end", []any{"HSET", key, "token", "a", "holder", "b", "since", "c"}},
			{"stream", []any{"XADD", key, "1-1", "field", "a"}},
		} {
			t.Run(key+", a "+it.kind, func(t *testing.T) {
				s := redistest.Start(t)
				c := s.Client()
				do(t, c, it.command)
				kept := keepers(t, c)
				loadUp(t, c)
				r := clean(t, s, atLevel(ttlpolicy.Force), ignoreBusy, noTarget)
				expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
				if gone := expectKept(t, c, kept); gone != few {
					t.Errorf("%d of %d keys are gone", gone, few)
				}
				if key == leaseKey {
					expectWarning(t, r, "no_lease")
				}
				expectWarning(t, r, "no_cooldown")
			})
		}
	}
	t.Run("a string under the lease's", func(t *testing.T) {
		s := redistest.Start(t)
		c := s.Client()
		do(t, c, []any{"SET", leaseKey, "a"})
		kept := keepers(t, c)
		loadUp(t, c)
		r := clean(t, s, atLevel(ttlpolicy.Force), ignoreBusy, noTarget)
		expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
		expectKept(t, c, kept)
		expectWarning(t, r, "no_lease")
	})
}

// hostile acts on a terminal: a title, a clear screen, a C1 control, a reversed direction, a bare carriage return.
const hostile = "\x1b]0;owned\a\x1b[2J\u009b31m\u202egnp.exe\r\x7f\xff"

// expectPlain holds that a text cannot act on a terminal.
func expectPlain(t *testing.T, what, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s is not UTF-8: %q", what, text)
	}
	for _, r := range text {
		if r < ' ' && r != '\n' || r >= 0x7f && r <= 0x9f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			t.Errorf("%s holds %U: %q", what, r, text)
			return
		}
	}
}

func TestNothingThatAServerSaysActsOnATerminal(t *testing.T) {
	program := build(t)
	for _, it := range []struct {
		name string
		evil func(t *testing.T, c *redis.Client, p *redistest.FaultProxy)
	}{
		{"the holder of the lease", func(t *testing.T, c *redis.Client, _ *redistest.FaultProxy) {
			do(t, c, []any{"HSET", leaseKey, "token", "a", "holder", hostile, "since", hostile}, []any{"PEXPIRE", leaseKey, 60_000})
		}},
		{"a refusal", func(_ *testing.T, _ *redis.Client, p *redistest.FaultProxy) {
			p.Answer(func(cmd []string) (string, bool) {
				return "-ERR " + strings.ReplaceAll(hostile, "\r", ""), strings.EqualFold(cmd[0], "scan") || strings.EqualFold(cmd[0], "dbsize")
			})
		}},
		{"what it says of itself", func(_ *testing.T, _ *redis.Client, p *redistest.FaultProxy) {
			evil := strings.ReplaceAll(hostile, "\r", "")
			info := "run_id:" + evil + "\r\nredis_version:" + evil + "\r\nrole:slave\r\nmaster_host:" + evil + "\r\nmaster_port:" + evil +
				"\r\nmaxmemory_policy:" + evil + "lfu\r\nused_memory:100000000\r\nmaxmemory:0\r\n"
			p.Answer(func(cmd []string) (string, bool) {
				return fmt.Sprintf("$%d\r\n%s\r\n", len(info), info), strings.EqualFold(cmd[0], "info")
			})
		}},
		{"its script's answer", func(_ *testing.T, _ *redis.Client, p *redistest.FaultProxy) {
			p.Answer(func(cmd []string) (string, bool) {
				return fmt.Sprintf("*1\r\n$%d\r\n%s", len(hostile), hostile), strings.EqualFold(cmd[0], "evalsha")
			})
		}},
		{"something that is not Redis", func(_ *testing.T, _ *redis.Client, p *redistest.FaultProxy) {
			p.Answer(func([]string) (string, bool) { return hostile, true })
		}},
	} {
		t.Run(it.name, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			loadUp(t, c)
			plant(t, c, func(p *planter) {
				for i := range 50 {
					p.set("ml_results:"+hostile+strconv.Itoa(i), time.Hour)
					p.set(sessionPrefix+hostile+strconv.Itoa(i), 40*time.Minute)
				}
			})
			proxy := redistest.Proxy(t, s.Addr)
			it.evil(t, c, proxy)
			for _, flags := range [][]string{{"-o", "text", "-v"}, {"-o", "text", "-q"}, {"-o", "json", "-v", "--log-format", "json"}} {
				p := start(t, program, proxy.Addr, t.TempDir(), flags...)
				p.Wait()
				expectPlain(t, strings.Join(flags, " ")+": stdout", p.stdout.String())
				expectPlain(t, strings.Join(flags, " ")+": stderr", p.stderr.String())
				if p.stdout.Len() == 0 && flags[2] != "-q" {
					t.Errorf("%s says nothing", flags)
				}
			}
		})
	}
}
