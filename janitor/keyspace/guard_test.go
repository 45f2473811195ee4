package keyspace

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/redistest"
)

// foreign is a script that is not the janitor's.
const foreign = "return redis.call('FLUSHALL')"

// forbidden are commands that no connection may send, in no mode.
var forbidden = [][]any{
	{"flushdb"}, {"FLUSHALL"}, {"FlushAll", "async"}, {"keys", "*"}, {"del", "k"}, {"DEL", "redis-janitor:lease"}, {"unlink", "k"},
	{"config", "set", "maxmemory", "1"}, {"CONFIG", "GET", "*"}, {"config", "resetstat"}, {"swapdb", 0, 1}, {"shutdown", "nosave"},
	{"debug", "sleep", 0}, {"Debug", "jmap"}, {"eval", "return 1", 0}, {"EVAL", evictLua, 1, "k"}, {"eval_ro", "return 1", 0},
	{"evalsha", newScript(foreign).digest, 0}, {"EvalSha", strings.ToUpper(evictScript.digest), 0}, {"evalsha"},
	{"evalsha_ro", evictScript.digest, 0}, {"fcall", "f", 0}, {"fcall_ro", "f", 0}, {"function", "load", "#!lua name=x"}, {"function", "flush"},
	{"script", "load", foreign}, {"script", "load", evictScript.body + " "}, {"script", "load", evictScript.body, "x"}, {"script", "load"}, {"script", "flush"}, {"script", "kill"}, {"script"},
	{"multi"}, {"exec"}, {"watch", "k"}, {"set", "k", "v"}, {"setex", "k", 1, "v"}, {"getdel", "k"}, {"getex", "k", "persist"}, {"hset", "k", "f", "v"},
	{"expire", "k", 1}, {"pexpire", "k", 1, "LT"}, {"persist", "k"}, {"touch", "k"}, {"rename", "k", "l"}, {"move", "k", 1}, {"copy", "k", "l"},
	{"restore", "k", 0, "x"}, {"migrate", "h", 1, "k", 0, 1}, {"dump", "k"}, {"sort", "k", "store", "l"},
	{"client", "kill", "type", "normal"}, {"client", "pause", 1}, {"client"}, {"client", "setname2"}, {"acl", "setuser", "x"}, {"acl", "list"},
	{"replicaof", "no", "one"}, {"slaveof", "no", "one"}, {"failover"}, {"module", "load", "x"}, {"save"}, {"bgsave"}, {"bgrewriteaof"},
	{"monitor"}, {"subscribe", "c"}, {"publish", "c", "m"}, {"memory", "purge"}, {"memory"}, {"object", "freq", "k"}, {"object", "help"},
	{"cluster", "reset"}, {"cluster", "failover"}, {"reset"}, {"readonly"}, {"pfadd", "k", "e"}, {"xtrim", "k", "maxlen", 0}, {"scanx", 0}, {""}, {"get "}, {"memory usage", "k"},
}

// scripting are commands that a connection may send where it evicts, and only there.
var scripting = [][]any{
	{"evalsha", evictScript.digest, 0}, {"EVALSHA", leaseScript.digest, 1, "k"}, {"EvalSha", releaseScript.digest, 1, "k"},
	{"script", "load", evictScript.body}, {"SCRIPT", "LOAD", leaseScript.body}, {"Script", "Load", releaseScript.body}, {"script", "load", []byte(evictScript.body)},
}

// capturing is what reads whole values, where a capsule is filled.
var capturing = [][]any{{"evalsha", captureScript.digest, 1, "k"}, {"script", "load", captureScript.body}}

// restoring is what writes, where a capsule is put back.
var restoring = [][]any{{"restore", "k", 0, "v"}, {"RESTORE", "k", 1, "v", "absttl", "replace"}}

// without leaves out the commands of one name.
func without(commands [][]any, name string) [][]any {
	return slices.DeleteFunc(slices.Clone(commands), func(c []any) bool { return c[0] == name })
}

// reading are commands that every connection may send.
var reading = [][]any{
	{"hello", 2}, {"AUTH", "p"}, {"select", 3}, {"ping"}, {"Client", "SetName", "n"}, {"info"}, {"info", "commandstats"}, {"dbsize"},
	{"scan", 0, "count", 100}, {"PTTL", "k"}, {"pttl", []byte("k\r\n*1\r\n$8\r\nFLUSHALL\r\n")}, {"randomkey"}, {"type", "k"},
	{"memory", "usage", "k"}, {"MEMORY", "USAGE", ""}, {"object", "idletime", "k"}, {"object", "encoding", "k"}, {"get", "k"}, {"scard", "k"}, {"zcard", "k"},
	{"hlen", "k"}, {"llen", "k"}, {"pfcount", "k"}, {"hgetall", "k"},
}

// wire is a connection that keeps what is written to it.
type wire struct {
	net.Conn
	sent bytes.Buffer
}

func (w *wire) Write(p []byte) (int, error) { return w.sent.Write(p) }

// encode writes a command as a client would.
func encode(words []any) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, word := range words {
		text := fmt.Sprint(word)
		if raw, ok := word.([]byte); ok {
			text = string(raw)
		}
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(text), text)
	}
	return b.Bytes()
}

func TestTheGuardLetsThroughWhatItsModeMaySend(t *testing.T) {
	for _, c := range []struct {
		name     string
		mode     Mode
		commands [][]any
		passes   bool
	}{
		{"reading commands on a reading connection", Reading, reading, true},
		{"reading commands on an evicting connection", Evicting, reading, true},
		{"our scripts on an evicting connection", Evicting, scripting, true},
		{"our scripts on a reading connection", Reading, scripting, false},
		{"anything else on a reading connection", Reading, forbidden, false},
		{"anything else on an evicting connection", Evicting, forbidden, false},
		{"our scripts on a preserving connection", Preserving, append(capturing, scripting...), true},
		{"the capturing script on an evicting connection", Evicting, capturing, false},
		{"anything else on a preserving connection", Preserving, forbidden, false},
		{"what a restore sends", Restoring, append(restoring, reading...), true},
		{"our scripts on a restoring connection", Restoring, append(capturing, scripting...), false},
		{"anything else on a restoring connection", Restoring, without(forbidden, "restore"), false},
	} {
		for _, command := range c.commands {
			w := &wire{}
			data := encode(command)
			_, err := guard(w, newAllowList(c.mode)).Write(data)
			var refusal *Forbidden
			switch {
			case c.passes && (err != nil || !bytes.Equal(w.sent.Bytes(), data)):
				t.Errorf("%s: %.60q: %v, %d of %d bytes sent", c.name, command, err, w.sent.Len(), len(data))
			case !c.passes && (!errors.As(err, &refusal) || w.sent.Len() != 0):
				t.Errorf("%s: %.60q: %v, %d bytes sent", c.name, command, err, w.sent.Len())
			}
		}
	}
}

func TestTheGuardLetsThroughNothingThatIsNotACommand(t *testing.T) {
	for _, data := range []string{
		"FLUSHALL\r\n", "flushall\n", "PING\r\n", "\r\n", "\n", " *1\r\n$4\r\nPING\r\n", "GET / HTTP/1.1\r\n\r\n",
		"*0\r\n", "*-1\r\n", "*+1\r\n$4\r\nPING\r\n", "*1\n$4\r\nPING\r\n", "* 1\r\n$4\r\nPING\r\n", "*1\r\n+PING\r\n", "*1\r\n:4\r\n",
		"*1\r\n$-1\r\n", "*1\r\n$4\nPING\r\n", "*1\r\n$4\r\nPINGxx", "*1\r\n$4\r\nPING\n\r", "*1\r\n$3\r\nPING\r\n", "*1x\r\n$4\r\nPING\r\n", "*\r\n",
		"*99999999999999999999\r\n", "*1\r\n$99999999999999999999\r\n", "*11111111111", "*1\r\n$111111111111", "\x16\x03\x01",
	} {
		w := &wire{}
		conn := guard(w, newAllowList(Evicting))
		if _, err := conn.Write([]byte(data)); err == nil || w.sent.Len() != 0 {
			t.Errorf("%q: %v, sent %q", data, err, w.sent.String())
		}
		if _, err := conn.Write(encode(cmd("ping"))); err == nil || w.sent.Len() != 0 {
			t.Errorf("%q: what follows it: %v, sent %q", data, err, w.sent.String())
		}
	}
}

func TestAnUnfinishedCommandWaits(t *testing.T) {
	data := encode(cmd("pttl", "some key"))
	for cut := 1; cut < len(data); cut++ {
		w := &wire{}
		conn := guard(w, newAllowList(Reading))
		if n, err := conn.Write(data[:cut]); n != cut || err != nil || w.sent.Len() != 0 {
			t.Errorf("the first %d bytes: %d, %v, sent %q", cut, n, err, w.sent.String())
		}
		if _, err := conn.Write(data[cut:]); err != nil || !bytes.Equal(w.sent.Bytes(), data) {
			t.Errorf("the rest after %d bytes: %v, sent %q", cut, err, w.sent.String())
		}
	}
}

// parse is another reading of RESP than the guard's: it returns the commands that data holds, and
// fails where there is anything else. Its lines end in \r\n, and its numbers are plain.
func parse(data []byte) (commands [][]string, err error) {
	r := bufio.NewReader(bytes.NewReader(data))
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(line[1:], "\r\n"), 10, 31)
		if err != nil || line[0] != kind {
			return 0, fmt.Errorf("line %q: %w", line, err)
		}
		return int(n), nil
	}
	for {
		count, err := number('*')
		if errors.Is(err, io.EOF) {
			return commands, nil
		}
		if err != nil {
			return commands, err
		}
		var command []string
		for range count {
			size, err := number('$')
			if err != nil {
				return commands, err
			}
			if size > len(data) {
				return commands, io.ErrUnexpectedEOF
			}
			word := make([]byte, size+2)
			if _, err := io.ReadFull(r, word); err != nil {
				return commands, err
			}
			command = append(command, string(word[:size]))
		}
		commands = append(commands, command)
	}
}

// FuzzTheGuardHoldsInPieces writes any bytes in any pieces: what comes out is commands that may be
// sent, whole, in order, and no more than what went in.
func FuzzTheGuardHoldsInPieces(f *testing.F) {
	for _, commands := range [][][]any{reading, scripting, forbidden} {
		var all []byte
		for i, command := range commands {
			data := encode(command)
			f.Add(data, uint64(i))
			f.Add(append(encode(cmd("pttl", "k")), data...), uint64(i))
			all = append(all, data...)
		}
		f.Add(all, uint64(1))
	}
	f.Add([]byte("*2\r\n$4\r\nPTTL\r\n$12\r\n*1\r\n$8\r\nFLUSH\r\n"), uint64(2))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		for _, mode := range []Mode{Reading, Evicting} {
			allow := newAllowList(mode)
			w := &wire{}
			conn := guard(w, allow)
			r := rand.New(rand.NewPCG(seed, 1))
			var refusal error
			for rest := data; len(rest) > 0 && refusal == nil; {
				n := 1 + r.IntN(min(len(rest), 1+r.IntN(64+len(data)/50)))
				_, refusal = conn.Write(rest[:n])
				rest = rest[n:]
			}
			if !bytes.HasPrefix(data, w.sent.Bytes()) {
				t.Fatalf("%q became %q", data, w.sent.Bytes())
			}
			sent, err := parse(w.sent.Bytes())
			if err != nil {
				t.Fatalf("sent %q, which is not whole commands: %v", w.sent.Bytes(), err)
			}
			for _, command := range sent {
				if err := permit(allow, command, len(command)); err != nil {
					t.Fatalf("sent %q: %v", command, err)
				}
				if mode == Reading && strings.EqualFold(command[0], "evalsha") {
					t.Fatalf("a reading connection sent %q", command)
				}
			}
			if whole, err := parse(data); err == nil && refusal == nil && len(whole) != len(sent) {
				t.Fatalf("of %d commands %d were sent, and none refused", len(whole), len(sent))
			}
		}
	})
}

// guardedOnly is a client whose connections are guarded, and which nothing else holds back.
func guardedOnly(t *testing.T, s *redistest.Server, mode Mode) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1, PipelinePoolSize: -1,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return guard(conn, newAllowList(mode)), nil
		},
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestNothingForbiddenReachesTheServer(t *testing.T) {
	s := redistest.Start(t)
	do(t, s.Client(), cmd("set", "k", "v"))
	for _, mode := range []Mode{Reading, Evicting} {
		refusals := forbidden
		if mode == Reading {
			refusals = append(refusals[:len(refusals):len(refusals)], scripting...)
		}
		for name, c := range map[string]*redis.Client{
			"the janitor's client": open(t, options(s.URL(), mode)).data,
			"the connection alone": guardedOnly(t, s, mode),
		} {
			t.Run(fmt.Sprintf("%s, mode %d", name, mode), func(t *testing.T) {
				ctx := t.Context()
				s.ResetStats()
				for _, command := range refusals {
					ways := map[string]func() error{
						"alone": func() error { return c.Do(ctx, command...).Err() },
						"in a pipeline": func() error {
							p := c.Pipeline()
							for _, words := range [][]any{{"pttl", "k"}, {"dbsize"}, command, {"pttl", "k"}} {
								p.Do(ctx, words...)
							}
							cmds, err := p.Exec(ctx)
							for _, cmd := range cmds {
								if !errors.As(cmd.Err(), new(*Forbidden)) {
									return fmt.Errorf("%s beside it: %w", cmd.Name(), cmd.Err())
								}
							}
							return err
						},
						"in a transaction": func() error {
							p := c.TxPipeline()
							p.Do(ctx, command...)
							_, err := p.Exec(ctx)
							return err
						},
					}
					for way, send := range ways {
						var refusal *Forbidden
						if err := send(); !errors.As(err, &refusal) {
							t.Errorf("%.60q %s: %v", command, way, err)
						}
					}
				}
				p := c.TxPipeline()
				p.Do(ctx, "pttl", "k")
				if _, err := p.Exec(ctx); !errors.As(err, new(*Forbidden)) {
					t.Errorf("a transaction that only reads: %v", err)
				}
				// Handshakes are all that has come through, as the connections were broken off.
				for command, calls := range s.CommandStats(ctx) {
					switch command {
					case "hello", "client|setname", "info", "config|resetstat":
					default:
						t.Errorf("%s reached the server %d times", command, calls)
					}
				}
				if n, err := c.DBSize(ctx).Result(); n != 1 || err != nil {
					t.Errorf("afterwards there are %d keys: %v", n, err)
				}
			})
		}
	}
}

func TestALongPipelineIsRefusedAsAWhole(t *testing.T) {
	s := redistest.Start(t)
	n := evicting(t, s)
	s.ResetStats()
	p := n.data.Pipeline()
	for i := range 100_000 {
		p.PTTL(t.Context(), fmt.Sprintf("a key with a long name, so that the pipeline leaves in many pieces: %d", i))
	}
	p.FlushAll(t.Context())
	cmds, err := p.Exec(t.Context())
	if !errors.As(err, new(*Forbidden)) {
		t.Errorf("it was answered with %v", err)
	}
	if first := cmds[0].Err(); !errors.As(first, new(*Forbidden)) {
		t.Errorf("its first command was answered with %v", first)
	}
	if stats := s.CommandStats(t.Context()); stats["pttl"] != 0 || stats["flushall"] != 0 {
		t.Errorf("the server ran %v", stats)
	}
}

func TestALongPipelineThatMayBeSentIsSent(t *testing.T) {
	s := redistest.Start(t)
	n := open(t, options(s.URL(), Reading))
	keys := make([]string, 50_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("%d%s", i, strings.Repeat("\r\n*1\r\n$8\r\nFLUSHALL\r\n", i%20))
	}
	keys[0] = strings.Repeat("k", 1<<20)
	facts, err := n.Facts(t.Context(), keys, Ask{})
	if err != nil || len(facts) != len(keys) {
		t.Errorf("%d facts: %v", len(facts), err)
	}
	if stats := s.CommandStats(t.Context()); stats["pttl"] != int64(len(keys)) {
		t.Errorf("PTTL was run %d times", stats["pttl"])
	}
}

func TestReadingSendsOnlyCommandsThatRead(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	do(t, c, cmd("set", "number", 7), cmd("sadd", "set", "a", "b"), cmd("zadd", "zset", 1, "a"), cmd("hset", "hash", "f", "v"),
		cmd("rpush", "list", "a"), cmd("pfadd", "log", "a", "b", "c"), cmd("xadd", "stream", "*", "f", "v"), cmd("set", "word", "seven"))
	before := redistest.Snapshot(t.Context(), c)
	s.ResetStats()
	n := open(t, options(s.URL(), Reading))
	ctx := t.Context()
	keys, _, err := n.Page(ctx, 0, "*", 1000)
	if err != nil || len(keys) != 8 {
		t.Fatalf("a page has %q: %v", keys, err)
	}
	all := func(int) bool { return true }
	if _, err := n.Facts(ctx, keys, Ask{Idle: all, Bytes: all}); err != nil {
		t.Error(err)
	}
	if drawn, err := n.RandomKeys(ctx, 50); err != nil || len(drawn) != 50 {
		t.Errorf("%d keys drawn: %v", len(drawn), err)
	}
	if size, err := n.Size(ctx); err != nil || size != 8 {
		t.Errorf("size %d: %v", size, err)
	}
	if _, err := n.Ping(ctx); err != nil {
		t.Error(err)
	}
	if _, err := n.CooldownLeft(ctx); err != nil {
		t.Error(err)
	}
	if _, held, err := n.LeaseHolder(ctx); err != nil || held {
		t.Errorf("the lease is held: %v, %v", held, err)
	}
	for key, want := range map[string]int64{"number": 7, "set": 2, "zset": 1, "hash": 1, "list": 1, "log": 3, "missing": 0} {
		if got, err := n.Count(ctx, key); err != nil || got != want {
			t.Errorf("%s counts %d users, want %d: %v", key, got, want, err)
		}
	}
	for _, key := range []string{"word", "stream"} {
		if got, err := n.Count(ctx, key); err == nil {
			t.Errorf("%s counts %d users", key, got)
		}
	}
	writes := map[string]error{
		"load":    n.CanEvict(ctx),
		"release": n.ReleaseLease(ctx, "t"),
	}
	_, writes["evict"] = n.Evict(ctx, Batch{Keys: keys, Persistent: true})
	_, _, writes["lease"] = n.TakeLease(ctx, "t", "h", "s", 1, false)
	for what, err := range writes {
		if !errors.As(err, new(*Forbidden)) {
			t.Errorf("%s in reading mode: %v", what, err)
		}
	}
	for command := range s.CommandStats(ctx) {
		switch command {
		case "hello", "client|setname", "info", "scan", "pttl", "object|idletime", "object|encoding", "memory|usage", "randomkey", "dbsize", "ping",
			"hgetall", "type", "get", "scard", "zcard", "hlen", "llen", "pfcount", "config|resetstat":
		default:
			t.Errorf("the server ran %s", command)
		}
	}
	for key, was := range redistest.Snapshot(ctx, c) {
		if before[key] != was {
			t.Errorf("%q was changed", key)
		}
	}
}
