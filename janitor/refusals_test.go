package janitor_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// few is how many sessions the servers below hold, all of which would go: dozens of batches.
const few = 2000

// loadUp gives a server sessions that would all go.
func loadUp(t *testing.T, c *redis.Client) {
	t.Helper()
	sow(t, c, few, 3*time.Minute, 290*time.Second, "redis.call('SET', key, 'a session', 'PX', ttl)")
}

// poll waits for something to become true.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("waiting for %s: it did not come", what)
			return
		}
	}
}

// asJanitor logs in as a user of its own, so that what befalls it leaves the test alone.
func asJanitor(t *testing.T, c *redis.Client) func(*janitor.Request) {
	t.Helper()
	do(t, c, []any{"ACL", "SETUSER", "janitor", "on", ">pw", "~*", "+@all"})
	return func(r *janitor.Request) { r.Connection.Username, r.Connection.Password = "janitor", "pw" }
}

// acl changes what the janitor may do.
func acl(rules ...any) func(*testing.T, *redistest.Server) func() {
	return send(append([]any{"ACL", "SETUSER", "janitor"}, rules...)...)
}

// send strikes with a command.
func send(command ...any) func(*testing.T, *redistest.Server) func() {
	return func(t *testing.T, s *redistest.Server) func() {
		t.Helper()
		do(t, s.Client(), command)
		return nil
	}
}

// failToSave puts a folder where the snapshot should go: Redis refuses writes after a failed one.
func failToSave(t *testing.T, s *redistest.Server) func() {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.Dir, "dump.rdb", "in the way"), 0o700); err != nil {
		t.Error(err)
	}
	c := s.Client()
	do(t, c, []any{"BGSAVE"})
	poll(t, "a failed snapshot", func() bool {
		return strings.Contains(c.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
	})
	return nil
}

// hog runs a script without end.
func hog(t *testing.T, s *redistest.Server) (undo func()) {
	t.Helper()
	c, other := s.Client(), s.Client()
	var running sync.WaitGroup
	// Its error is that it was killed.
	running.Go(func() { c.Eval(context.Background(), "while true do end", nil) })
	poll(t, "the server to be busy", func() bool {
		err := other.Ping(context.Background()).Err()
		return err != nil && strings.HasPrefix(err.Error(), "BUSY")
	})
	return func() {
		other.Do(context.Background(), "SCRIPT", "KILL")
		running.Wait()
	}
}

// calamities can come over a server at any time.
var calamities = []struct {
	name   string
	args   []string
	strike func(t *testing.T, s *redistest.Server) (undo func()) // undo: as far as the test needs it
	reason janitor.Reason
	hint   string
}{
	{"MISCONF", []string{"--save", "3600 1"}, failToSave, "misconf", "snapshot"},
	{"NOREPLICAS", nil, send("CONFIG", "SET", "min-replicas-to-write", "1"), "noreplicas", "min-replicas-to-write"},
	{"READONLY", nil, send("REPLICAOF", "127.0.0.1", "1"), "readonly", "primary"},
	{"NOPERM for UNLINK", nil, acl("-unlink"), "noperm", "docs/acl.md"},
	{"NOPERM for EVALSHA", nil, acl("-evalsha"), "noperm", "docs/acl.md"},
	{"NOPERM for the keys", nil, acl("resetkeys", "~redis-janitor*"), "noperm", "docs/acl.md"},
	{"BUSY", []string{"--busy-reply-threshold", "20"}, hog, "busy_script", "SCRIPT KILL"},
}

// expectTold holds that a failure says where it happened and what to do next.
func expectTold(t *testing.T, r *janitor.Report, addr, hint string) {
	t.Helper()
	if !strings.Contains(r.Message, addr) {
		t.Errorf("the message does not name %s: %q", addr, r.Message)
	}
	if r.Hint == "" || !strings.Contains(r.Hint, hint) {
		t.Errorf("the hint does not speak of %q: %q (%s)", hint, r.Hint, r.Message)
	}
}

func TestEachRefusalEndsTheRunWithItsOwnReasonAndTrueCounts(t *testing.T) {
	for _, it := range calamities {
		for _, moment := range []struct {
			name string
			at   int
		}{{"before the first deletion", 1}, {"half-way", 5}} {
			t.Run(it.name+" "+moment.name, func(t *testing.T) {
				s := redistest.Start(t, it.args...)
				c := s.Client()
				loadUp(t, c)
				p := redistest.Proxy(t, s.Addr)
				undo := func() {}
				atEviction(p, moment.at, func() {
					if u := it.strike(t, s); u != nil {
						undo = u
					}
				})
				r := clean(t, s, atLevel(ttlpolicy.Force), calm, noTarget, through(p), asJanitor(t, c))
				undo()
				gone := few - countKeys(t, c, sessionPrefix+"*")
				if moment.at == 1 {
					expect(t, r, janitor.Refused, it.reason, janitor.ExitNoServer)
				} else {
					expect(t, r, janitor.Failed, it.reason, janitor.ExitFailed)
				}
				expectTold(t, r, p.Addr, it.hint)
				if (gone > 0) != (moment.at > 1) || r.Totals.Evicted != gone || r.Totals.Uncertain != 0 {
					t.Errorf("%d keys are gone; the report says %+v", gone, r.Totals)
				}
			})
		}
	}
}
