package janitor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

const sessionPrefix = "combot_cache:1:django.contrib.sessions.cache"

// sow plants many sessions at once: a script needs no round trips. command gets the key and its TTL in milliseconds.
func sow(t *testing.T, c *redis.Client, n int, from, to time.Duration, command string, args ...any) {
	t.Helper()
	script := "for i = tonumber(ARGV[1]), ARGV[2] - 1 do local key = ARGV[3]..i\n" +
		"local ttl = math.floor(ARGV[4] + (ARGV[5] - ARGV[4]) * ((i * 7919) % ARGV[6]) / ARGV[6])\n" + command + " end"
	for at := 0; at < n; at += 20_000 {
		argv := append([]any{at, min(at+20_000, n), sessionPrefix, from.Milliseconds(), to.Milliseconds(), n}, args...)
		if err := c.Eval(t.Context(), script, nil, argv...).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatalf("planting sessions: %v", err)
		}
	}
}

// modes are the two ways in which keys are judged: in the batch that evicts them, and before it by a waterline.
var modes = []struct {
	name   string
	change func(t *testing.T, c *redis.Client, empty int64) func(*janitor.Request)
}{
	{"judged in the batch", func(*testing.T, *redis.Client, int64) func(*janitor.Request) { return noTarget }},
	{"judged by a waterline", func(t *testing.T, c *redis.Client, empty int64) func(*janitor.Request) {
		target := empty + (usedMemory(t, c)-empty)*6/10
		return func(r *janitor.Request) { r.Policy.Memory.Target = janitor.Target{Bytes: target} }
	}},
}

func fast(r *janitor.Request) { r.Pace = "fast" }

// session is what a writer remembers of one.
type session struct {
	secured bool // whatever happens from now on, the policy keeps it
	revived bool // it had been gone, and was made again
}

// work has several goroutines do something to sessions, each to its own, until stop is called. do gets the numbers of
// some random sessions.
func work(t *testing.T, c *redis.Client, n int, do func(ctx context.Context, sessions []session, picked []int) error) (stop func() []session) {
	t.Helper()
	const hands, each = 2, 24
	sessions := make([]session, n)
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	errs := make(chan error, hands)
	for hand := range hands {
		random := rand.New(rand.NewPCG(7, uint64(hand)))
		working.Go(func() {
			for ctx.Err() == nil {
				picked, dup := make([]int, 0, each), map[int]bool{}
				for len(picked) < each {
					if i := random.IntN(n/hands)*hands + hand; !dup[i] {
						dup[i] = true
						picked = append(picked, i)
					}
				}
				// Not to be torn in the middle: what it did must be known.
				if err := do(context.WithoutCancel(ctx), sessions, picked); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	return func() []session {
		t.Helper()
		cancel()
		working.Wait()
		close(errs)
		for err := range errs {
			t.Fatalf("a writer: %v", err)
		}
		return sessions
	}
}

// allKeys is every key there is.
func allKeys(t *testing.T, c *redis.Client) map[string]bool {
	t.Helper()
	names, err := c.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]bool, len(names))
	for _, name := range names {
		keys[name] = true
	}
	return keys
}

func sessionKey(i int) string { return sessionPrefix + strconv.Itoa(i) }

// refresh gives sessions a new life in the three ways in which applications do that.
func refresh(c *redis.Client) func(context.Context, []session, []int) error {
	return func(ctx context.Context, sessions []session, picked []int) error {
		const life = 29 * time.Minute
		third := len(picked) / 3
		replies := make([]*redis.Cmd, len(picked))
		pipe := c.Pipeline()
		for j, i := range picked {
			switch j / third {
			case 0:
				replies[j] = pipe.Do(ctx, "PEXPIRE", sessionKey(i), life.Milliseconds())
			case 1:
				replies[j] = pipe.Do(ctx, "SET", sessionKey(i), "renewed", "PX", life.Milliseconds(), "GET")
			default:
				replies[j] = pipe.Do(ctx, "DEL", sessionKey(i))
			}
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		again := c.Pipeline()
		for j, i := range picked {
			switch j / third {
			case 0:
				if n, err := replies[j].Int64(); err != nil {
					return err
				} else if n == 1 {
					sessions[i].secured = true
				}
			case 1:
				if err := replies[j].Err(); errors.Is(err, redis.Nil) {
					sessions[i].revived = true
				} else if err != nil {
					return err
				}
				sessions[i].secured = true
			default:
				if n, err := replies[j].Int64(); err != nil {
					return err
				} else if n == 0 {
					sessions[i].revived = true
				}
				again.Do(ctx, "SET", sessionKey(i), "made again", "PX", life.Milliseconds())
			}
		}
		if _, err := again.Exec(ctx); err != nil {
			return err
		}
		for j, i := range picked {
			if j/third >= 2 {
				sessions[i].secured = true
			}
		}
		return nil
	}
}

// expectNoneLost holds what is left against what the writers did: all they secured, and neither more nor less gone
// than the report says.
func expectNoneLost(t *testing.T, c *redis.Client, r *janitor.Report, sessions []session) (secured, revived int64) {
	t.Helper()
	left := allKeys(t, c)
	var gone, lost int64
	for i, s := range sessions {
		there := left[sessionKey(i)]
		if s.secured {
			secured++
		}
		if s.revived {
			revived++
		}
		if !there {
			gone++
		}
		if s.secured && !there {
			if lost++; lost <= 5 {
				t.Errorf("session %d was refreshed before it could be deleted, and is gone", i)
			}
		}
	}
	if lost > 5 {
		t.Errorf("and %d more", lost-5)
	}
	// Made again means deleted before, and by nobody else.
	if r.Totals.Evicted != gone+revived {
		t.Errorf("the report says that %d were evicted: %d are gone and %d had been until they were made again", r.Totals.Evicted, gone, revived)
	}
	if r.Totals.Failed != 0 || r.Totals.Uncertain != 0 {
		t.Errorf("failed %d, uncertain %d", r.Totals.Failed, r.Totals.Uncertain)
	}
	return secured, revived
}

func TestNotOneRefreshedSessionIsLost(t *testing.T) {
	const n = 200_000
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			empty := usedMemory(t, c)
			// At level force sessions go that end within 5 minutes by themselves: all of these would.
			sow(t, c, n, 3*time.Minute, 290*time.Second, "redis.call('SET', key, 'a session', 'PX', ttl)")
			change := mode.change(t, c, empty)
			stop := work(t, c, n, refresh(c))
			r := clean(t, s, atLevel(ttlpolicy.Force), calm, fast, change)
			secured, revived := expectNoneLost(t, c, r, stop())
			f := r.Nodes[0].Families[2]
			t.Logf("%d evicted, %d refreshed, %d vanished, %d fresh; %d sessions were refreshed in time, %d too late", f.Evicted, f.Refreshed, f.Vanished, f.Kept.Fresh, secured-revived, revived)
			if r.Outcome != janitor.Evicted || f.Evicted < n/10 || secured < n/100 || f.Refreshed+f.Kept.Fresh == 0 {
				t.Errorf("that shows little: %s, %+v", r.Message, f)
			}
			// Every session is accounted for but those that were gone for a moment when the walk came by.
			if known := f.Matched; known > n+n/50 || known < n-n/50 {
				t.Errorf("%d of %d sessions are accounted for: %+v", known, n, f)
			}
		})
	}
}

func TestNotOneTouchedSessionIsLostWhereARuleAsksForIdleness(t *testing.T) {
	const n = 200_000
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			empty := usedMemory(t, c)
			do(t, c, []any{"SET", "sample", "a session"})
			dumped, err := c.Dump(t.Context(), "sample").Result()
			if err != nil {
				t.Fatal(err)
			}
			sow(t, c, n, 3*time.Minute, 290*time.Second, "redis.call('RESTORE', key, ttl, ARGV[7], 'IDLETIME', 3600)", dumped)
			change := mode.change(t, c, empty)
			stop := work(t, c, n, func(ctx context.Context, sessions []session, picked []int) error {
				replies := make([]*redis.StringCmd, len(picked))
				pipe := c.Pipeline()
				for j, i := range picked {
					replies[j] = pipe.Get(ctx, sessionKey(i))
				}
				if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
					return err
				}
				for j, i := range picked {
					if err := replies[j].Err(); err == nil {
						sessions[i].secured = true
					} else if !errors.Is(err, redis.Nil) {
						return err
					}
				}
				return nil
			})
			idle := func(r *janitor.Request) { r.Policy.Families[2].Rule.MinIdle = 10 * time.Minute }
			r := clean(t, s, atLevel(ttlpolicy.Force), calm, fast, change, idle)
			secured, _ := expectNoneLost(t, c, r, stop())
			f := r.Nodes[0].Families[2]
			t.Logf("%d evicted, %d refreshed, %d not idle; %d sessions were touched in time", f.Evicted, f.Refreshed, f.Kept.NotIdle, secured)
			if r.Outcome != janitor.Evicted || f.Evicted < n/10 || secured < n/100 || f.Refreshed+f.Kept.NotIdle == 0 {
				t.Errorf("that shows little: %s, %+v", r.Message, f)
			}
			if f.Matched < n || f.Matched > n+twice {
				t.Errorf("%d of %d sessions are accounted for: %+v", f.Matched, n, f)
			}
		})
	}
}

// Refreshes in the very moment between the decision and the deletion: every batch is held up until four of its keys
// have been given another fate.
func TestWhatChangesBetweenDecisionAndDeletionIsCountedAsWhatItIs(t *testing.T) {
	const n = 4000
	for _, mode := range []struct {
		name   string
		change func(*janitor.Request)
		stayed func(janitor.FamilyReport) int64
	}{
		{"judged in the batch", noTarget, func(f janitor.FamilyReport) int64 { return f.Kept.Fresh }},
		{"judged by a waterline", func(r *janitor.Request) { noTarget(r); r.MaxKeys = 10 * n }, func(f janitor.FamilyReport) int64 { return f.Refreshed }},
	} {
		t.Run(mode.name, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			sow(t, c, n, 3*time.Minute, 290*time.Second, "redis.call('SET', key, 'a session', 'PX', ttl)")
			// With these the table is never nearly empty: Redis would shrink it, and SCAN return a key twice.
			do(t, c, []any{"EVAL", "for i = 1, ARGV[1] do redis.call('SET', 'other:' .. i, 'v') end return 1", 0, n / 4})
			p := redistest.Proxy(t, s.Addr)
			var mu sync.Mutex
			stay, vanish := map[string]bool{}, map[string]bool{}
			onEviction(p, func(keys []string) {
				mu.Lock()
				defer mu.Unlock()
				if len(keys) < 4 {
					return
				}
				for i, key := range keys[:4] {
					if i < 3 {
						stay[key] = true
					} else {
						vanish[key] = true
					}
				}
				do(t, c, []any{"EXPIRE", keys[0], 1700}, []any{"SET", keys[1], "renewed", "EX", 1700},
					[]any{"DEL", keys[2], keys[3]}, []any{"SET", keys[2], "made again", "EX", 1700})
			})
			r := clean(t, s, atLevel(ttlpolicy.Force), calm, mode.change, through(p))
			expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
			f := r.Nodes[0].Families[2]
			want := fmt.Sprint(n-len(stay)-len(vanish), len(stay), len(vanish), n)
			if got := fmt.Sprint(f.Evicted, mode.stayed(f), f.Vanished, f.Matched); got != want || len(stay) == 0 {
				t.Errorf("evicted, kept, vanished and matched are %s, want %s: %+v", got, want, f)
			}
			left := allKeys(t, c)
			for key := range left {
				if strings.HasPrefix(key, sessionPrefix) && !stay[key] {
					t.Errorf("%q is still there", key)
				}
			}
			for key := range stay {
				if !left[key] {
					t.Errorf("%q was refreshed and is gone", key)
				}
			}
		})
	}
}
