package janitor_test

import (
	"context"
	"github.com/redis/go-redis/v9"
	"redis-janitor/ttlpolicy"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
)

// through sends a run's talk through a proxy.
func through(p *redistest.FaultProxy) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Connection.URLs = []string{"redis://" + p.Addr + "/0"} }
}

// evictionKeys are the keys of a batch on its way to the server; nil for any other command. The scripts of the lease
// name one key, and that is the lease.
func evictionKeys(cmd []string) []string {
	if !strings.EqualFold(cmd[0], "EVALSHA") || len(cmd) < 5 || cmd[3] == leaseKey {
		return nil
	}
	named, err := strconv.Atoi(cmd[2])
	if err != nil || len(cmd) < 4+named {
		return nil
	}
	count, err := strconv.Atoi(cmd[3+named])
	if err != nil || count > named {
		return nil
	}
	return cmd[3 : 3+count]
}

// onEviction has do see the keys of every batch before the server does, one batch at a time.
func onEviction(p *redistest.FaultProxy, do func(keys []string)) {
	var one sync.Mutex
	p.Answer(func(cmd []string) (string, bool) {
		if keys := evictionKeys(cmd); keys != nil {
			one.Lock()
			defer one.Unlock()
			do(keys)
		}
		return "", false
	})
}

// atEviction does something once, while the n-th batch waits at the server's door.
func atEviction(p *redistest.FaultProxy, n int, do func()) {
	seen := 0
	onEviction(p, func([]string) {
		if seen++; seen == n {
			do()
		}
	})
}

// brisk has a run notice soon that nobody answers.
func brisk(r *janitor.Request) {
	r.Connection.ConnectTimeout, r.Connection.CommandTimeout = time.Second, time.Second
}

// keepers are keys that no run below may touch.
func keepers(t *testing.T, c *redis.Client) map[string]redistest.Key {
	t.Helper()
	plant(t, c, func(p *planter) {
		for i := range 200 {
			p.set(sessionPrefix+"fresh:"+strconv.Itoa(i), 29*time.Minute)
			p.set(sessionPrefix+"forever:"+strconv.Itoa(i), never)
			p.set("user:"+strconv.Itoa(i), 4*time.Minute)
		}
	})
	return redistest.Snapshot(t.Context(), c)
}

// expectKept holds that all keepers are as they were, and returns how many of the sessions that loadUp planted are gone.
func expectKept(t *testing.T, c *redis.Client, keepers map[string]redistest.Key) (gone int64) {
	t.Helper()
	left := redistest.Snapshot(t.Context(), c)
	for name, key := range keepers {
		if left[name] != key {
			t.Errorf("%q was %+v and is %+v", name, key, left[name])
		}
	}
	gone = few
	for name := range left {
		if _, keeper := keepers[name]; strings.HasPrefix(name, sessionPrefix) && !keeper {
			gone--
		}
	}
	return gone
}

// outage is what happens to a server that loadUp has filled, at a batch half-way, and what must come of it.
type outage struct {
	name    string
	saved   bool // its data is there again after a restart
	strike  func(t *testing.T, s *redistest.Server, p *redistest.FaultProxy)
	always  bool // at every batch from then on
	change  func(*janitor.Request)
	outcome janitor.Outcome
	reason  janitor.Reason
	exit    int
	warning string
	check   func(t *testing.T, c *redis.Client, r *janitor.Report, gone int64)
}

func restart(t *testing.T, s *redistest.Server, _ *redistest.FaultProxy) {
	s.Kill()
	s.Restart(t)
}

func takeTheLease(t *testing.T, s *redistest.Server) {
	t.Helper()
	do(t, s.Client(), []any{"DEL", leaseKey}, []any{"HSET", leaseKey, "token", "of another", "holder", "another", "since", "now"}, []any{"PEXPIRE", leaseKey, 60_000})
}

// twice is how many keys SCAN may return once more where nearly all keys go: Redis shrinks the table under it.
const twice = 5

// everyKeyKnown is where the run has come to its end: what was not evicted was asked for and got no answer.
func everyKeyKnown(t *testing.T, _ *redis.Client, r *janitor.Report, gone int64) {
	t.Helper()
	if n := r.Totals; n.Evicted > gone || n.Evicted+n.Uncertain < few || n.Failed+n.Refreshed != 0 || n.Vanished > twice {
		t.Errorf("of %d keys %d are gone; the report says %+v", few, gone, n)
	}
}

// nothingInvented is where the run was ended.
func nothingInvented(t *testing.T, _ *redis.Client, r *janitor.Report, gone int64) {
	t.Helper()
	if n := r.Totals; n.Evicted == 0 || n.Evicted > gone || n.Evicted+n.Uncertain < gone || gone == few {
		t.Errorf("%d keys are gone; the report says %+v", gone, n)
	}
}

// allGone is where every key could be reached again.
func allGone(t *testing.T, c *redis.Client, r *janitor.Report, gone int64) {
	t.Helper()
	if gone != few || keyExists(t, c, leaseKey) {
		t.Errorf("%d of %d keys are gone, or the lease is still there; the report says %+v", gone, few, r.Totals)
	}
}

var outages = []outage{
	{name: "restarted with its data", saved: true, strike: restart,
		outcome: janitor.Evicted, reason: janitor.Exhausted, warning: "possibly_incomplete",
		check: func(t *testing.T, c *redis.Client, r *janitor.Report, gone int64) {
			allGone(t, c, r, gone)
			// What had gone before came back with the data, and went again.
			if r.Totals.Evicted <= few || r.Totals.Uncertain == 0 {
				t.Errorf("the report says %+v", r.Totals)
			}
		}},
	{name: "restarted without data", strike: restart,
		outcome: janitor.Evicted, reason: janitor.Exhausted, warning: "possibly_incomplete",
		check: func(t *testing.T, c *redis.Client, r *janitor.Report, _ int64) {
			if n := dbSize(t, c); n != 0 || r.Totals.Evicted == 0 || r.Totals.Evicted >= few {
				t.Errorf("%d keys on a server that lost all of its own; the report says %+v", n, r.Totals)
			}
		}},
	{name: "restarted again and again", saved: true, strike: restart, always: true,
		outcome: janitor.Failed, reason: "restarted", exit: janitor.ExitFailed, warning: "possibly_incomplete"},
	{name: "restarted, and another janitor is there first", saved: true,
		strike: func(t *testing.T, s *redistest.Server, p *redistest.FaultProxy) {
			p.Refuse(true)
			restart(t, s, p)
			takeTheLease(t, s)
			p.Refuse(false)
		},
		outcome: janitor.Incomplete, reason: janitor.LeaseLost, exit: janitor.ExitIncomplete,
		check: func(t *testing.T, _ *redis.Client, r *janitor.Report, gone int64) {
			if gone != 0 || r.Totals.Evicted == 0 {
				t.Errorf("%d keys are gone after the restart; the report says %+v", gone, r.Totals)
			}
		}},
	{name: "restarted as a replica", saved: true,
		strike: func(t *testing.T, s *redistest.Server, p *redistest.FaultProxy) {
			p.Refuse(true)
			restart(t, s, p)
			do(t, s.Client(), []any{"REPLICAOF", "127.0.0.1", "1"})
			p.Refuse(false)
		},
		outcome: janitor.Failed, reason: "readonly", exit: janitor.ExitFailed},
	{name: "gone for good", change: brisk,
		strike:  func(_ *testing.T, _ *redistest.Server, p *redistest.FaultProxy) { p.Refuse(true); p.Cut() },
		outcome: janitor.Failed, reason: "unreachable", exit: janitor.ExitFailed, check: nothingInvented},
	{name: "cut off once", strike: func(_ *testing.T, _ *redistest.Server, p *redistest.FaultProxy) { p.Cut() },
		outcome: janitor.Evicted, reason: janitor.Exhausted, warning: "uncertain", check: everyKeyKnown},
	{name: "one reply lost", strike: func(_ *testing.T, _ *redistest.Server, p *redistest.FaultProxy) { p.DropNextReply("EVALSHA") },
		outcome: janitor.Evicted, reason: janitor.Exhausted, warning: "uncertain",
		check: func(t *testing.T, c *redis.Client, r *janitor.Report, gone int64) {
			everyKeyKnown(t, c, r, gone)
			if gone != few || r.Totals.Uncertain == 0 {
				t.Errorf("%d keys are gone; the report says %+v", gone, r.Totals)
			}
		}},
	{name: "every reply lost", always: true, strike: func(_ *testing.T, _ *redistest.Server, p *redistest.FaultProxy) { p.DropNextReply("EVALSHA") },
		outcome: janitor.Failed, reason: "unreachable", exit: janitor.ExitFailed, check: nothingInvented},
	{name: "stalled for longer than the timeout", change: brisk,
		strike: func(t *testing.T, s *redistest.Server, _ *redistest.FaultProxy) {
			s.Pause()
			timer := time.AfterFunc(2500*time.Millisecond, s.Resume)
			t.Cleanup(func() { timer.Stop() })
		},
		outcome: janitor.Evicted, reason: janitor.Exhausted, warning: "uncertain", check: everyKeyKnown},
	{name: "stalled for good", change: brisk,
		strike:  func(_ *testing.T, s *redistest.Server, _ *redistest.FaultProxy) { s.Pause() },
		outcome: janitor.Failed, reason: "unreachable", exit: janitor.ExitFailed, check: nothingInvented},
	{name: "its scripts flushed",
		strike: func(t *testing.T, s *redistest.Server, _ *redistest.FaultProxy) {
			do(t, s.Client(), []any{"SCRIPT", "FLUSH"})
		},
		outcome: janitor.Evicted, reason: janitor.Exhausted,
		check: func(t *testing.T, c *redis.Client, r *janitor.Report, gone int64) {
			allGone(t, c, r, gone)
			if r.Totals.Evicted != few {
				t.Errorf("the report says %+v", r.Totals)
			}
		}},
	{name: "its scripts flushed all the time", always: true,
		strike: func(t *testing.T, s *redistest.Server, _ *redistest.FaultProxy) {
			do(t, s.Client(), []any{"SCRIPT", "FLUSH"})
		},
		outcome: janitor.Failed, reason: "noscript", exit: janitor.ExitFailed, check: nothingInvented},
	{name: "the lease dropped by the server",
		strike: func(t *testing.T, s *redistest.Server, _ *redistest.FaultProxy) {
			do(t, s.Client(), []any{"DEL", leaseKey})
		},
		outcome: janitor.Evicted, reason: janitor.Exhausted,
		check: func(t *testing.T, c *redis.Client, r *janitor.Report, gone int64) {
			allGone(t, c, r, gone)
			if r.Totals.Evicted != few {
				t.Errorf("the report says %+v", r.Totals)
			}
		}},
	{name: "the lease taken by another janitor",
		strike:  func(t *testing.T, s *redistest.Server, _ *redistest.FaultProxy) { takeTheLease(t, s) },
		outcome: janitor.Incomplete, reason: janitor.LeaseLost, exit: janitor.ExitIncomplete,
		check: func(t *testing.T, _ *redis.Client, r *janitor.Report, gone int64) {
			if r.Totals.Evicted != gone || gone == 0 || gone == few || r.Totals.Uncertain != 0 {
				t.Errorf("%d keys are gone; the report says %+v", gone, r.Totals)
			}
		}},
	{name: "no connection left for a moment",
		strike: func(t *testing.T, s *redistest.Server, p *redistest.FaultProxy) {
			c := s.Client()
			do(t, c, []any{"CONFIG", "SET", "maxclients", 1})
			p.Cut()
			timer := time.AfterFunc(150*time.Millisecond, func() { c.ConfigSet(context.Background(), "maxclients", "10000") })
			t.Cleanup(func() { timer.Stop() })
		},
		outcome: janitor.Evicted, reason: janitor.Exhausted, warning: "uncertain", check: everyKeyKnown},
	{name: "no connection left for good",
		strike: func(t *testing.T, s *redistest.Server, p *redistest.FaultProxy) {
			do(t, s.Client(), []any{"CONFIG", "SET", "maxclients", 1})
			p.Cut()
		},
		outcome: janitor.Failed, reason: "maxclients", exit: janitor.ExitFailed, check: nothingInvented},
	{name: "our user deleted", change: func(r *janitor.Request) { r.Connection.Username, r.Connection.Password = "janitor", "pw" }, strike: func(t *testing.T, s *redistest.Server, _ *redistest.FaultProxy) {
		do(t, s.Client(), []any{"ACL", "DELUSER", "janitor"})
	}, outcome: janitor.Failed, reason: "auth", exit: janitor.ExitFailed, check: nothingInvented},
}

func TestAnOutageHalfWayLosesNothingAndInventsNothing(t *testing.T) {
	for _, it := range outages {
		t.Run(it.name, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			kept := keepers(t, c)
			loadUp(t, c)
			do(t, c, []any{"ACL", "SETUSER", "janitor", "on", ">pw", "~*", "+@all"})
			if it.saved {
				do(t, c, []any{"SAVE"})
			}
			p := redistest.Proxy(t, s.Addr)
			var one sync.Mutex
			seen, surveys := 0, 0
			p.Answer(func(cmd []string) (string, bool) {
				one.Lock()
				defer one.Unlock()
				if strings.EqualFold(cmd[0], "DBSIZE") {
					surveys++
				}
				if evictionKeys(cmd) != nil {
					if seen++; seen == 5 || it.always && seen > 5 {
						it.strike(t, s, p)
					}
				}
				return "", false
			})
			changes := []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget, through(p)}
			if it.change != nil {
				changes = append(changes, it.change)
			}
			r := clean(t, s, changes...)
			reason := it.reason
			if it.name == "restarted again and again" {
				if r.Reason == "unreachable" {
					reason = r.Reason // a start that takes longer than it is asked again
				}
				// Each walk begins with a survey: one, and three from the beginning.
				if surveys < 2 || surveys > 4 || reason == it.reason && surveys != 4 {
					t.Errorf("it began %d walks", surveys)
				}
			}
			expect(t, r, it.outcome, reason, it.exit)
			if it.exit == janitor.ExitFailed {
				expectTold(t, r, p.Addr, "")
			}
			if it.warning != "" {
				expectWarning(t, r, it.warning)
			}
			s.Resume()
			gone := int64(0)
			if it.name != "restarted without data" {
				gone = expectKept(t, c, kept)
			}
			if it.check != nil {
				it.check(t, c, r, gone)
			}
		})
	}
}
