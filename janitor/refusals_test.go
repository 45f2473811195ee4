package janitor_test

import (
	"cmp"
	"context"
	"io"
	"net"
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

// door is a server that sends the janitor away before it has deleted anything.
type door struct {
	name    string
	args    []string
	lock    func(t *testing.T, s *redistest.Server) (undo func())
	change  func(*janitor.Request)
	outcome janitor.Outcome // failed where nobody answered, refused where nothing is said
	reason  janitor.Reason
	exit    int // 5 where nothing is said
	hint    string
}

// without has a server not know a command.
func without(command string) []string { return []string{"--rename-command", command, ""} }

func renamed(commands ...string) (doors []door) {
	for _, command := range commands {
		doors = append(doors, door{name: "no " + command, args: without(command), reason: "nocommand", hint: "docs/compatibility.md"})
	}
	return doors
}

func inDatabase(n string) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Connection.URLs[0] = strings.TrimSuffix(r.Connection.URLs[0], "0") + n }
}

var doors = append([]door{
	{name: "a password is wanted", args: []string{"--requirepass", "secret"}, change: func(r *janitor.Request) { r.Connection.Password = "" }, reason: "auth", hint: "REDISCLI_AUTH"},
	{name: "another password is wanted", args: []string{"--requirepass", "secret"}, change: func(r *janitor.Request) { r.Connection.Password = "guess" }, reason: "auth", hint: "--password-file"},
	{name: "no such user", change: func(r *janitor.Request) { r.Connection.Username, r.Connection.Password = "nobody", "guess" }, reason: "auth", hint: "--user"},
	{name: "no such database", change: inDatabase("99"), reason: "db", hint: "URL"},
	{name: "no EVALSHA", args: without("EVALSHA"), reason: "noeval", hint: "docs/acl.md"},
	{name: "no SCRIPT", args: without("SCRIPT"), reason: "noeval", hint: "docs/acl.md"},
	{name: "no scripts by ACL", lock: acl("-@scripting"), reason: "noperm", hint: "docs/acl.md"},
	{name: "no SCAN by ACL", lock: acl("-scan"), reason: "noperm", hint: "docs/acl.md"},
	{name: "no INFO by ACL", lock: acl("-info"), reason: "noperm", hint: "docs/acl.md"},
	{name: "a long script", args: []string{"--busy-reply-threshold", "20"}, lock: hog, reason: "busy_script", hint: "SCRIPT KILL"},
	{name: "still loading", args: []string{"--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"},
		lock: func(t *testing.T, s *redistest.Server) func() {
			do(t, s.Client(), []any{"SAVE"})
			s.Restart(t)
			return nil
		}, outcome: janitor.Failed, reason: "loading", hint: "try again"},
	{name: "nobody listens", lock: func(_ *testing.T, s *redistest.Server) func() { s.Kill(); return nil }, change: brisk,
		outcome: janitor.Failed, reason: "unreachable", hint: "REDIS_URL"},
	{name: "nobody answers", lock: func(_ *testing.T, s *redistest.Server) func() { s.Pause(); return s.Resume }, change: brisk,
		outcome: janitor.Failed, reason: "unreachable", hint: "REDIS_URL"},
	{name: "no connection left", args: []string{"--maxclients", "3"},
		lock: func(t *testing.T, s *redistest.Server) func() {
			c := s.Client()
			for range 3 {
				conn := c.Conn()
				t.Cleanup(func() { conn.Close() })
				conn.Ping(t.Context()) // the last may already be one too many
			}
			return func() { c.Close() }
		}, reason: "maxclients", hint: "maxclients"},
	{name: "a replica", lock: send("REPLICAOF", "127.0.0.1", "1"), reason: janitor.Replica, exit: janitor.ExitRefused, hint: "primary"},
}, renamed("INFO", "DBSIZE", "SCAN", "PTTL", "UNLINK", "SELECT")...)

func TestAServerThatSendsTheJanitorAwayKeepsEveryKey(t *testing.T) {
	for _, it := range doors {
		t.Run(it.name, func(t *testing.T) {
			s := redistest.Start(t, it.args...)
			c := s.Client()
			loadUp(t, c)
			as := asJanitor(t, c)
			if s.Password != "" || it.name == "still loading" {
				as = func(*janitor.Request) {}
			}
			undo := func() {}
			if it.lock != nil {
				if u := it.lock(t, s); u != nil {
					undo = u
				}
			}
			changes := []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget, as}
			if it.change != nil {
				changes = append(changes, it.change)
			}
			if it.name == "no SELECT" {
				changes = append(changes, inDatabase("1"))
			}
			r := clean(t, s, changes...)
			undo()
			expect(t, r, cmp.Or(it.outcome, janitor.Refused), it.reason, cmp.Or(it.exit, janitor.ExitNoServer))
			expectTold(t, r, s.Addr, it.hint)
			if r.Totals.Evicted != 0 || r.Totals.Uncertain != 0 {
				t.Errorf("the report says %+v", r.Totals)
			}
			if it.name == "nobody listens" {
				return // its keys went with it
			}
			var left []string
			poll(t, "the server's answer", func() bool {
				var err error
				left, err = c.Keys(t.Context(), sessionPrefix+"*").Result()
				return err == nil
			})
			if len(left) != few {
				t.Errorf("%d keys are left of %d", len(left), few)
			}
		})
	}
}

// A server without a password serves only its own machine unless it is told otherwise. To Redis 127.0.0.2 is not that.
func TestAServerInProtectedModeSaysSo(t *testing.T) {
	s := redistest.Start(t, "--protected-mode", "yes")
	loadUp(t, s.Client())
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stranger.Close() })
	go func() {
		for {
			client, err := stranger.Accept()
			if err != nil {
				return
			}
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
			server, err := dialer.Dial("tcp", s.Addr)
			if err != nil {
				client.Close()
				continue
			}
			go func() { io.Copy(server, client); server.Close() }()
			go func() { io.Copy(client, server); client.Close() }()
		}
	}()
	r := clean(t, s, atLevel(ttlpolicy.Force), calm, noTarget, func(r *janitor.Request) { r.Connection.URLs = []string{"redis://" + stranger.Addr().String()} })
	expect(t, r, janitor.Refused, "auth", janitor.ExitNoServer)
	if !strings.Contains(r.Message, "DENIED") || !strings.Contains(r.Message, stranger.Addr().String()) || r.Hint == "" {
		t.Errorf("it is told as %q, with the hint %q", r.Message, r.Hint)
	}
}

// hardships are servers that make the job harder and don't stop it.
var hardships = []struct {
	name     string
	args     []string
	strike   func(t *testing.T, s *redistest.Server) (undo func())
	warnings string // those that there must be, and of the three below no other
}{
	{name: "out of memory under noeviction", strike: send("CONFIG", "SET", "maxmemory", "1")},
	{name: "a snapshot under way", args: []string{"--rdb-key-save-delay", "1000"}, strike: send("BGSAVE"), warnings: "fork_running"},
	{name: "an AOF rewrite under way", args: []string{"--rdb-key-save-delay", "1000", "--aof-use-rdb-preamble", "yes"}, strike: send("BGREWRITEAOF"), warnings: "fork_running"},
	{name: "a lease that may not be written", args: without("HSET"), warnings: "no_lease no_cooldown"},
	{name: "a lease that may not be read", args: without("HGETALL"), warnings: "no_lease no_cooldown"},
	{name: "own keys out of reach by ACL", strike: acl("resetkeys", "~combot_cache*"), warnings: "no_lease no_cooldown"},
	{name: "a cooldown that may not be written by ACL", strike: acl("-set"), warnings: "no_cooldown"},
	{name: "no name for a connection", args: without("CLIENT")},
	{name: "no PING", args: without("PING")},
	{name: "no random keys", args: without("RANDOMKEY")},
	{name: "no idle times", args: without("OBJECT")},
}

func TestAHardshipIsToldAndTheJobIsDone(t *testing.T) {
	for _, it := range hardships {
		t.Run(it.name, func(t *testing.T) {
			s := redistest.Start(t, it.args...)
			c := s.Client()
			kept := keepers(t, c)
			plant(t, c, func(p *planter) {
				for i := range few {
					p.do("SETEX", sessionKey(i), 270, "a session")
				}
			})
			as := asJanitor(t, c)
			if it.strike != nil {
				it.strike(t, s)
			}
			p := redistest.Proxy(t, s.Addr)
			leased := false
			atEviction(p, 5, func() { leased = keyExists(t, c, leaseKey) })
			r := clean(t, s, atLevel(ttlpolicy.Force), ignoreBusy, noTarget, through(p), as)
			expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
			if gone := expectKept(t, c, kept); gone != few || r.Totals.Evicted != few {
				t.Errorf("%d keys are gone; the report says %+v", gone, r.Totals)
			}
			for _, code := range []string{"fork_running", "no_lease", "no_cooldown"} {
				if hasWarning(r, code) != strings.Contains(it.warnings, code) {
					t.Errorf("warnings %+v, want %s", r.Warnings, it.warnings)
				}
			}
			if leased == strings.Contains(it.warnings, "no_lease") || keyExists(t, c, cooldownKey) == strings.Contains(it.warnings, "no_cooldown") {
				t.Errorf("the lease was there: %t, the cooldown is: %t; warnings %+v", leased, keyExists(t, c, cooldownKey), r.Warnings)
			}
		})
	}
}
