package keyspace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/redistest"
)

// answerOnce starts a TCP server that says something to everyone who calls, and hangs up.
func answerOnce(t *testing.T, said string, afterRequest bool) (addr string, calls *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	calls = new(atomic.Int64)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			if afterRequest {
				_, _ = conn.Read(make([]byte, 1024))
			}
			_, _ = conn.Write([]byte(said))
			conn.Close()
		}
	}()
	return l.Addr().String(), calls
}

// deadAddr is an address on which nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

const secret = "s3cr3t-word"

func TestWhatKeepsUsFromConnectingIsToldByItsKind(t *testing.T) {
	said := func(text string, afterRequest bool) func(t *testing.T, o *Options) {
		return func(t *testing.T, o *Options) {
			addr, _ := answerOnce(t, text, afterRequest)
			o.URLs[0] = "redis://:" + secret + "@" + addr
		}
	}
	server := func(scheme, user, path string, args ...string) func(t *testing.T, o *Options) {
		return func(t *testing.T, o *Options) {
			s := redistest.Start(t, args...)
			o.URLs[0] = scheme + "://" + user + s.Addr + path
		}
	}
	secured := func(scheme string, change func(s *redistest.Server, o *Options)) func(t *testing.T, o *Options) {
		return func(t *testing.T, o *Options) {
			s := redistest.StartTLS(t)
			o.URLs[0] = scheme + "://:" + secret + "@" + s.TLSAddr
			o.CACert, o.Cert, o.Key = s.CACert, s.Cert, s.Key
			change(s, o)
		}
	}
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, o *Options)
		kind    Kind
	}{
		{"dead port", func(t *testing.T, o *Options) { o.URLs[0] = "redis://:" + secret + "@" + deadAddr(t) }, Unreachable},
		{"no such socket", func(t *testing.T, o *Options) { o.URLs[0] = "unix://" + filepath.Join(t.TempDir(), "sock") }, Unreachable},
		{"no such host", func(_ *testing.T, o *Options) { o.URLs[0] = "redis://:" + secret + "@no-such-host.invalid" }, Unreachable},
		{"hangs up at once", said("", false), Unreachable},
		{"hangs up at a request", said("", true), Unreachable},
		{"a web server", func(t *testing.T, o *Options) {
			s := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(s.Close)
			o.URLs[0] = "redis://:" + secret + "@" + strings.TrimPrefix(s.URL, "http://")
		}, NotRedis},
		{"a server of another kind", said("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", false), NotRedis},
		{"noise", said("\x00\x01\x02\xff\xfe\r\n\x00\r\n", true), NotRedis},
		{"a TLS alert", said("\x15\x03\x01\x00\x02\x02\x46", true), TLS},
		{"protected mode", said("-DENIED Redis is running in protected mode because protected mode is enabled\r\n", false), Auth},
		{"no password", server("redis", "", "", "--requirepass", "other"), Auth},
		{"wrong password", server("redis", ":"+secret+"@", "", "--requirepass", "other"), Auth},
		{"wrong user", server("redis", "nobody:"+secret+"@", "", "--requirepass", "other"), Auth},
		{"disabled default user", server("redis", "", "", "--user", "default", "off"), Auth},
		{"disabled default user with a password", server("redis", ":"+secret+"@", "", "--user", "default", "off"), Auth},
		{"a user who may not ask for INFO", server("redis", "u:"+secret+"@", "", "--user", "u", "on", ">"+secret, "~*", "+@all", "-info"), NoPerm},
		{"AUTH has another name", server("redis", ":"+secret+"@", "", "--requirepass", secret, "--rename-command", "AUTH", "X", "--rename-command", "HELLO", ""), NoCommand},
		{"no such database", server("redis", ":"+secret+"@", "/99"), BadDB},
		{"TLS to a plain port", func(t *testing.T, o *Options) {
			o.ConnectTimeout = 300 * time.Millisecond // the server waits for the end of a line
			server("rediss", ":"+secret+"@", "")(t, o)
		}, TLS},
		// OpenSSL sends no alert to someone whose version it cannot tell; the hint names TLS.
		{"plain to a TLS port", secured("redis", func(*redistest.Server, *Options) {}), Unreachable},
		{"unknown CA", secured("rediss", func(_ *redistest.Server, o *Options) { o.CACert = "" }), TLS},
		{"another name", secured("rediss", func(s *redistest.Server, o *Options) {
			// The certificate holds for 127.0.0.1 and localhost; this name leads there as well.
			o.URLs[0] = strings.Replace(o.URLs[0], "127.0.0.1", "0.0.0.0", 1)
		}), TLS},
		{"no client certificate", secured("rediss", func(_ *redistest.Server, o *Options) { o.Cert, o.Key = "", "" }), TLS},
		{"all connections taken", func(t *testing.T, o *Options) {
			// Not when it starts: the connection that saw it ready may not have left its books yet.
			s := redistest.Start(t)
			do(t, s.Client(), cmd("config", "set", "maxclients", "1"))
			o.URLs[0] = "redis://:" + secret + "@" + s.Addr
		}, MaxClients},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := options("", Reading)
			c.prepare(t, &o)
			_, err := Open(t.Context(), o)
			t.Log(err)
			e := refused(t, err, c.kind)
			if e.Hint == "" || e.Sent || e.Op == "" {
				t.Errorf("it has no hint, or may have run something: %+v", e)
			}
			if text := fmt.Sprintf("%v %+v %q", err, e, e.Hint); strings.Contains(text, secret) {
				t.Errorf("the error tells the password: %s", text)
			}
		})
	}
}

// atWork is a server with one key that goes, and a node that has been opened through a proxy before
// anything went wrong.
type atWork struct {
	s     *redistest.Server
	proxy *redistest.FaultProxy
	c     *redis.Client
	n     *Node
	batch Batch
}

func startWork(t *testing.T, args ...string) atWork {
	t.Helper()
	s := redistest.Start(t, args...)
	w := atWork{s: s, proxy: redistest.Proxy(t, s.Addr), c: s.Client(), batch: Batch{Keys: []string{"k", "l"}, MaxTTL: time.Hour}}
	do(t, w.c, cmd("set", "k", "v", "px", 600_000), cmd("set", "l", "v", "px", 600_000))
	o := options("redis://"+w.proxy.Addr, Evicting)
	o.CommandTimeout = time.Second
	w.n = open(t, o)
	return w
}

// failing fails the test unless a batch meets the same fate in all of its keys, and an error of a kind.
func (w atWork) failing(ctx context.Context, t *testing.T, kind Kind, fate Fate) *Error {
	t.Helper()
	r, err := w.n.Evict(ctx, w.batch)
	t.Log(err)
	e := refused(t, err, kind)
	if want := string([]byte{byte(fate), byte(fate)}); fates(r) != want || e.Sent != (fate == Uncertain) {
		t.Errorf("the fates are %s, sent %v; want %s", fates(r), e.Sent, want)
	}
	return e
}

func (w atWork) keysLeft(t *testing.T, want string) {
	t.Helper()
	if got := exists(t, w.c, w.batch.Keys...); got != want {
		t.Errorf("of the keys there are %s, want %s", got, want)
	}
}

func TestWhatRefusesADeletionIsToldByItsKind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, w atWork)
		kind    Kind
	}{
		{"too few replicas", func(t *testing.T, w atWork) { do(t, w.c, cmd("config", "set", "min-replicas-to-write", 1)) }, NoReplicas},
		{"a failed save", func(t *testing.T, w atWork) {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			do(t, w.c, cmd("config", "set", "save", "3600 1"), cmd("bgsave"))
			eventually(t, "a failed save", func() bool {
				return strings.Contains(w.c.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
			})
		}, Misconf},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := startWork(t, "--dir", dir)
			c.prepare(t, w)
			r, err := w.n.Evict(t.Context(), w.batch)
			if err != nil || fates(r) != "fd" {
				t.Errorf("the fates are %s: %v", fates(r), err)
			}
			if e := refused(t, r.Refusal, c.kind); e.Hint == "" || e.Sent {
				t.Errorf("the refusal is %+v", e)
			}
			w.keysLeft(t, "11")
			_, ours, err := w.n.TakeLease(t.Context(), "token", "host", "since", time.Minute, false)
			if e := refused(t, err, c.kind); ours || e.Sent {
				t.Errorf("the lease is ours: %v; the refusal is %+v", ours, e)
			}
			if _, err := w.n.Ping(t.Context()); err != nil {
				t.Errorf("a round trip was not measured: %v", err)
			}
		})
	}
}

// eventually waits for something that the test has set going.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestWhatKeepsAScriptFromRunningIsToldByItsKind(t *testing.T) {
	for _, c := range []struct {
		name    string
		args    []string
		prepare func(t *testing.T, w atWork)
		kind    Kind
	}{
		{"EVALSHA is gone", []string{"--rename-command", "EVALSHA", ""}, nil, NoEval},
		{"EVALSHA has another name", []string{"--rename-command", "EVALSHA", "RUN"}, nil, NoEval},
		{"SCRIPT is gone", []string{"--rename-command", "SCRIPT", ""}, nil, NoEval},
		{"EVALSHA is not permitted", nil, func(t *testing.T, w atWork) { do(t, w.c, cmd("acl", "setuser", "default", "-evalsha")) }, NoPerm},
		{"SCRIPT LOAD is not permitted", nil, func(t *testing.T, w atWork) { do(t, w.c, cmd("acl", "setuser", "default", "-script")) }, NoPerm},
		{"the keys are not permitted", nil, func(t *testing.T, w atWork) { do(t, w.c, cmd("acl", "setuser", "default", "resetkeys", "~x")) }, NoPerm},
		{"the server is loading", nil, func(_ *testing.T, w atWork) {
			w.proxy.Answer(answering("-LOADING Redis is loading the dataset in memory", "EVALSHA"))
		}, Loading},
		{"the cluster is down", nil, func(_ *testing.T, w atWork) {
			w.proxy.Answer(answering("-CLUSTERDOWN The cluster is down", "EVALSHA"))
		}, ClusterDown},
		{"the keys are elsewhere", nil, func(_ *testing.T, w atWork) {
			w.proxy.Answer(answering("-MOVED 3999 127.0.0.1:6381", "EVALSHA"))
		}, Moved},
		{"scripts are forgotten at once", nil, func(_ *testing.T, w atWork) {
			w.proxy.Answer(answering("-NOSCRIPT No matching script. Please use EVAL.", "EVALSHA"))
		}, NoScript},
		{"someone's script holds the server", nil, func(t *testing.T, w atWork) { occupy(t, w) }, BusyScript},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := startWork(t, c.args...)
			w.s.ResetStats()
			if c.prepare != nil {
				c.prepare(t, w)
			}
			if e := w.failing(t.Context(), t, c.kind, Deferred); e.Hint == "" && c.kind != Moved {
				t.Errorf("there is no hint: %+v", e)
			}
			if c.kind == BusyScript {
				return // nor does it answer INFO
			}
			if calls := w.s.CommandStats(t.Context())["evalsha"]; calls > 1 {
				t.Errorf("the script was tried %d times", calls)
			}
		})
	}
}

func TestAServerThatBecameAReplicaIsNotWrittenToWhateverItWouldTake(t *testing.T) {
	for _, readOnly := range []string{"yes", "no"} {
		t.Run("replica-read-only "+readOnly, func(t *testing.T) {
			w := startWork(t, "--replica-read-only", readOnly)
			do(t, w.c, cmd("replicaof", "127.0.0.1", 1))
			if e := w.failing(t.Context(), t, ReadOnly, Deferred); e.Hint == "" {
				t.Errorf("there is no hint: %+v", e)
			}
			w.keysLeft(t, "11")
			_, ours, err := w.n.TakeLease(t.Context(), "token", "host", "since", time.Minute, false)
			if e := refused(t, err, ReadOnly); ours || e.Sent || exists(t, w.c, LeaseKey) != "0" {
				t.Errorf("the lease is ours: %v; the refusal is %+v", ours, e)
			}
			w.proxy.Cut() // sentinels do that to a primary's connections, too
			_, err = w.n.Info(t.Context())
			refused(t, err, ReadOnly)
			// Whoever only reads has no objection.
			do(t, w.c, cmd("replicaof", "no", "one"))
			reader := open(t, options("redis://"+w.proxy.Addr, Reading))
			do(t, w.c, cmd("replicaof", "127.0.0.1", 1))
			w.proxy.Cut()
			if _, err := reader.Info(t.Context()); err != nil {
				t.Errorf("reading by a new connection: %v", err)
			}
		})
	}
}

// answering answers some commands in the server's place.
func answering(reply string, names ...string) func([]string) (string, bool) {
	return func(command []string) (string, bool) {
		for _, name := range names {
			if strings.EqualFold(command[0], name) {
				return reply, true
			}
		}
		return "", false
	}
}

// occupy has a script of somebody else's hold the server, until the test is over.
func occupy(t *testing.T, w atWork) {
	t.Helper()
	do(t, w.c, cmd("config", "set", "lua-time-limit", 1))
	other, killer := w.s.Client(), w.s.Client()
	do(t, killer, cmd("ping"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = other.Eval(context.Background(), "while true do end", nil).Err() // is killed
	}()
	busy := func() bool {
		err := killer.Ping(context.Background()).Err()
		return err != nil && strings.HasPrefix(err.Error(), "BUSY")
	}
	eventually(t, "the script to be at work", busy)
	t.Cleanup(func() {
		_ = killer.ScriptKill(context.Background()).Err() // refused where the test has done it
		<-ended
	})
}

func TestALostReplyLeavesKeysUncertain(t *testing.T) {
	t.Run("the reply is cut off", func(t *testing.T) {
		w := startWork(t)
		w.proxy.DropNextReply("EVALSHA")
		w.failing(t.Context(), t, Unreachable, Uncertain)
		w.keysLeft(t, "00")
		if r := evict(t, w.n, w.batch); fates(r) != "vv" {
			t.Errorf("the second time the fates are %s, want vv", fates(r))
		}
	})
	t.Run("the reply comes in part", func(t *testing.T) {
		w := startWork(t)
		evict(t, w.n, Batch{Keys: []string{"missing"}}) // loads the script
		w.proxy.DropRepliesAfter(10)
		w.failing(t.Context(), t, Unreachable, Uncertain)
		w.keysLeft(t, "00")
	})
	t.Run("the reply is no reply", func(t *testing.T) {
		w := startWork(t)
		w.proxy.Answer(answering("*1\r\n+odd", "EVALSHA"))
		w.failing(t.Context(), t, Other, Uncertain)
	})
	t.Run("the server does not answer in time", func(t *testing.T) {
		w := startWork(t)
		evict(t, w.n, Batch{Keys: []string{"missing"}})
		w.s.Pause()
		w.failing(t.Context(), t, Unreachable, Uncertain)
		w.s.Resume()
		eventually(t, "the script to have been run", func() bool { return exists(t, w.c, w.batch.Keys...) == "00" })
	})
	t.Run("the server does not answer before the deadline", func(t *testing.T) {
		w := startWork(t)
		evict(t, w.n, Batch{Keys: []string{"missing"}})
		w.s.Pause()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		w.failing(ctx, t, Unreachable, Uncertain)
		w.s.Resume()
	})
	t.Run("the server dies over it", func(t *testing.T) {
		w := startWork(t)
		evict(t, w.n, Batch{Keys: []string{"missing"}})
		w.s.Pause()
		time.AfterFunc(50*time.Millisecond, w.s.Kill)
		w.failing(t.Context(), t, Unreachable, Uncertain)
	})
}

func TestWhatWasNeverSentIsNotUncertain(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, w atWork) context.Context
		kind    Kind
	}{
		{"the reply to SCRIPT LOAD is lost", func(t *testing.T, w atWork) context.Context {
			w.proxy.DropNextReply("SCRIPT")
			return t.Context()
		}, Unreachable},
		{"the server is gone", func(t *testing.T, w atWork) context.Context {
			w.s.Kill()
			w.proxy.Cut()
			return t.Context()
		}, Unreachable},
		{"new connections are closed", func(t *testing.T, w atWork) context.Context {
			w.proxy.Refuse(true)
			w.proxy.Cut()
			return t.Context()
		}, Unreachable},
		{"new connections get no answer", func(t *testing.T, w atWork) context.Context {
			w.proxy.Cut()
			w.proxy.Stall(true)
			return t.Context()
		}, Unreachable},
		{"new connections are one too many", func(t *testing.T, w atWork) context.Context {
			do(t, w.c, cmd("config", "set", "maxclients", "1"))
			w.proxy.Cut()
			return t.Context()
		}, MaxClients},
		{"the password was changed", func(t *testing.T, w atWork) context.Context {
			do(t, w.c, cmd("config", "set", "requirepass", "new"))
			w.proxy.Cut()
			return t.Context()
		}, Auth},
		{"the server was restarted", func(t *testing.T, w atWork) context.Context {
			w.s.Restart(t)
			w.proxy.Cut()
			return t.Context()
		}, Restarted},
		{"the caller has stopped", func(t *testing.T, _ atWork) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx
		}, Stopped},
		{"the caller's time is over", func(t *testing.T, _ atWork) context.Context {
			ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
			t.Cleanup(cancel)
			return ctx
		}, Stopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := startWork(t)
			ctx := c.prepare(t, w)
			w.failing(ctx, t, c.kind, Deferred)
		})
	}
}

func TestAnErrorBringsNothingToATerminalButWords(t *testing.T) {
	hostile := "k\x1b[2J\r\n\x07\u009b31m"
	w := startWork(t, "--rename-command", "EVALSHA", "")
	w.batch.Keys = []string{hostile, "l"}
	_, err := w.n.Evict(t.Context(), w.batch)
	refused(t, err, NoEval)
	if strings.Contains(err.Error(), "[2J") {
		t.Errorf("a key's name is repeated: %q", err)
	}
	w.proxy.Answer(answering("-ERR of a kind \x1b[2J that\tnobody \x07 \u009b31m knows", "DBSIZE"))
	_, err = w.n.Size(t.Context())
	if want := "count keys on " + w.n.Addr() + ": ERR of a kind ?[2J that?nobody ? ?31m knows"; err == nil || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestAnErrorNamesWhatWasDoneAndWhere(t *testing.T) {
	w := startWork(t)
	do(t, w.c, cmd("acl", "setuser", "default", "-evalsha", "-dbsize"))
	_, err := w.n.Evict(t.Context(), w.batch)
	if want := "evict on " + w.n.Addr() + ": NOPERM "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %q, want it to begin with %q", err, want)
	}
	_, err = w.n.Size(t.Context())
	if want := "count keys on " + w.n.Addr() + ": NOPERM "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %q, want it to begin with %q", err, want)
	}
	if KindOf(errors.New("of somebody else")) != Other || KindOf(nil) != Other || fail(t.Context(), "", "", nil) != nil {
		t.Error("an error that is not ours has a kind")
	}
}

// answers are what servers really say: plainly, by redis.pcall, and at a script's end by redis.call.
var answers = []struct {
	text string
	kind Kind
}{
	{"OOM command not allowed when used memory > 'maxmemory'.", OOM},
	{"@user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.", OOM},
	{"ERR Error running script (call to f_7b6149474e93dc3661a8a719fd6876221f0e5f0c): @user_script:1: @user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.", OOM},
	{"OOM command not allowed when used memory > 'maxmemory'. script: 7b6149474e93dc3661a8a719fd6876221f0e5f0c, on @user_script:1.", OOM},
	{"MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.", Misconf},
	{"@user_script: 1: -MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.", Misconf},
	{"MISCONF Errors writing to the AOF file: No space left on device", Misconf},
	{"ERR Error running script (call to f_d878adf5c2c2bbccf85eb95d6862634960345d78): @user_script:1: @user_script: 1: -NOREPLICAS Not enough good replicas to write.", NoReplicas},
	{"NOREPLICAS Not enough good replicas to write. script: d878adf5c2c2bbccf85eb95d6862634960345d78, on @user_script:1.", NoReplicas},
	{"READONLY You can't write against a read only replica.", ReadOnly},
	{"READONLY You can't write against a read only replica. script: d878adf5c2c2bbccf85eb95d6862634960345d78, on @user_script:1.", ReadOnly},
	{"@user_script: 1: -READONLY You can't write against a read only replica.", ReadOnly},
	{"NOPERM this user has no permissions to run the 'unlink' command or its subcommand", NoPerm},
	{"NOPERM this user has no permissions to access one of the keys used as arguments", NoPerm},
	{"NOPERM User u has no permissions to run the 'evalsha' command", NoPerm},
	{"NOPERM No permissions to access a key", NoPerm},
	{"@user_script: 1: The user executing the script can't run this command or subcommand", NoPerm},
	{"ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: a728e2cabbfc93d5cdf7e8366ea35b3583571c5f, on @user_script:1.", NoPerm},
	{"ERR ACL failure in script: User u has no permissions to run the 'unlink' command", NoPerm},
	{"ERR ACL failure in script: No permissions to access a key script: a728e2cabbfc93d5cdf7e8366ea35b3583571c5f, on @user_script:1.", NoPerm},
	{"NOAUTH Authentication required.", Auth},
	{"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time", Auth},
	{"WRONGPASS invalid username-password pair or user is disabled.", Auth},
	{"ERR invalid password", Auth},
	{"ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?", Auth},
	{"DENIED Redis is running in protected mode because protected mode is enabled", Auth},
	{"LOADING Redis is loading the dataset in memory", Loading},
	{"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Loading},
	{"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", BusyScript},
	{"NOSCRIPT No matching script. Please use EVAL.", NoScript},
	{"NOSCRIPT No matching script.", NoScript},
	{"WRONGTYPE Operation against a key holding the wrong kind of value", WrongType},
	{"ERR Error running script (call to f_6878b7c0d907456d42675dba4f223e4f159c6408): @user_script:1: WRONGTYPE Operation against a key holding the wrong kind of value", WrongType},
	{"WRONGTYPE Operation against a key holding the wrong kind of value script: 6878b7c0d907456d42675dba4f223e4f159c6408, on @user_script:1.", WrongType},
	{"MOVED 3999 127.0.0.1:6381", Moved},
	{"ASK 3999 127.0.0.1:6381", Moved},
	{"TRYAGAIN Multiple keys request during rehashing of slot", Moved},
	{"CROSSSLOT Keys in request don't hash to the same slot", Moved},
	{"CLUSTERDOWN Hash slot not served", ClusterDown},
	{"ERR max number of clients reached", MaxClients},
	{"ERR max number of clients + cluster connections reached", MaxClients},
	{"ERR DB index is out of range", BadDB},
	{"ERR SELECT is not allowed in cluster mode", BadDB},
	{"ERR unknown command `foo`, with args beginning with: `bar`, ", NoCommand},
	{"ERR unknown command 'foo', with args beginning with: 'bar' ", NoCommand},
	{"ERR Unknown subcommand or wrong number of arguments for 'foo'. Try SCRIPT HELP.", NoCommand},
	{"ERR unknown subcommand 'foo'. Try MEMORY HELP.", NoCommand},
	{"ERR syntax error", Other},
	{"ERR Error running script (call to f_x): @user_script:1: user_script:1: attempt to index a nil value", Other},
	{"ERR user_script:1: attempt to index a number value script: e0fcc51dbba575abe0b7906d1203e0866014454a, on @user_script:1.", Other},
	{"", Other},
}

func TestAnswersOfAllVersionsAreToldByTheirKind(t *testing.T) {
	for _, a := range answers {
		if kind := classifyAnswer(a.text); kind != a.kind {
			t.Errorf("%q is of kind %s, want %s", a.text, kind, a.kind)
		}
	}
}
