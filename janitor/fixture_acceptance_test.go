package janitor_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/probe"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// The server's keys that a run may leave behind. Written out: the tests hold the code to the contract, not to itself.
const (
	leaseKey    = "redis-janitor:lease"
	cooldownKey = "redis-janitor:cooldown"
)

// request is an execute that --yes has confirmed, with the built-in policy; change makes it another one.
func request(s *redistest.Server, change ...func(*janitor.Request)) janitor.Request {
	req := janitor.Request{
		Command: janitor.Execute, Version: "test", Policy: janitor.Combot(),
		Connection:  keyspace.Options{URLs: []string{s.URL()}, Password: s.Password, ConnectTimeout: 5 * time.Second, CommandTimeout: 30 * time.Second, Workers: 2},
		ActiveUsers: -1, Confirmed: true, Deadline: 10 * time.Minute, Pace: "auto",
	}
	for _, c := range change {
		c(&req)
	}
	return req
}

// clean is one janitor on a host of its own.
func clean(t *testing.T, s *redistest.Server, change ...func(*janitor.Request)) *janitor.Report {
	t.Helper()
	return cleanOn(t.Context(), t, t.TempDir(), s, change...)
}

// cleanOn is one janitor on the host whose locks live in lockDir.
func cleanOn(ctx context.Context, t *testing.T, lockDir string, s *redistest.Server, change ...func(*janitor.Request)) *janitor.Report {
	t.Helper()
	return checked(t, janitor.Run(ctx, request(s, change...), host(lockDir)))
}

// host is the surroundings of a janitor on a host of its own.
func host(lockDir string) janitor.Env {
	return janitor.Env{
		Now: time.Now, Log: slog.New(slog.DiscardHandler), Machine: probe.ThisMachine{Root: os.DirFS("/")},
		LockDir: lockDir, Name: "host-" + strconv.Itoa(rand.Int()) + " pid 1", Random: rand.New(rand.NewPCG(1, 2)),
	}
}

// checked sees to what every report owes its readers.
func checked(t *testing.T, r *janitor.Report) *janitor.Report {
	t.Helper()
	if r.Schema != "redis-janitor/report/v1" || r.Outcome == "" || r.Reason == "" || r.Message == "" {
		t.Errorf("the report does not say how the run ended: %+v", r)
	}
	for _, n := range r.Nodes {
		for _, f := range n.Families {
			parts := f.Evicted + f.Refreshed + f.Vanished + f.Failed + f.Uncertain + keptOf(f)
			if f.Matched != parts {
				t.Errorf("%s: matched %d, and its parts are %d: %+v", f.Name, f.Matched, parts, f)
			}
		}
	}
	return r
}

func keptOf(f janitor.FamilyReport) int64 {
	k := f.Kept
	return k.Fresh + k.NoTTL + k.TTLOverLifetime + k.Protected + k.NotIdle + k.AboveWaterline + k.Newest + k.TooLarge + k.Moved + k.Unknown
}

// The changes that most tests make.
func command(c janitor.Command) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Command = c }
}
func atLevel(l ttlpolicy.Level) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Level = l }
}
func noTarget(r *janitor.Request)       { r.Policy.Memory.Target = janitor.Target{None: true} }
func ignoreCooldown(r *janitor.Request) { r.IgnoreCooldown = true }
func ignoreBusy(r *janitor.Request)     { r.IgnoreBusy = true }
func failIfSkipped(r *janitor.Request)  { r.FailIfSkipped = true }
func inDB(s *redistest.Server, db int) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Connection.URLs = []string{fmt.Sprintf("redis://%s/%d", s.Addr, db)} }
}

// atRatio chooses the limit so that memory stands at a share of it now.
func atRatio(t *testing.T, c *redis.Client, ratio float64) func(*janitor.Request) {
	t.Helper()
	limit := int64(float64(usedMemory(t, c)) / ratio)
	return func(r *janitor.Request) { r.Policy.Memory.Limit = janitor.Limit{Bytes: limit} }
}

// usedMemory is what the server compares with its maxmemory.
func usedMemory(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	return infoNumber(t, c, "used_memory") - infoNumber(t, c, "mem_not_counted_for_evict")
}

func infoNumber(t *testing.T, c *redis.Client, field string) int64 {
	t.Helper()
	info, err := c.Info(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("INFO has no %s", field)
	return 0
}

// expect holds a report against how the run should have ended.
func expect(t *testing.T, r *janitor.Report, outcome janitor.Outcome, reason janitor.Reason, exit int) {
	t.Helper()
	if r.Outcome != outcome || r.Reason != reason || r.ExitCode != exit {
		t.Errorf("got %s, %s, exit %d (%s), want %s, %s, exit %d", r.Outcome, r.Reason, r.ExitCode, r.Message, outcome, reason, exit)
	}
}

func hasWarning(r *janitor.Report, code string) bool {
	for _, w := range r.Warnings {
		if w.Code == code && w.Message != "" {
			return true
		}
	}
	return false
}

func expectWarning(t *testing.T, r *janitor.Report, code string) {
	t.Helper()
	if !hasWarning(r, code) {
		t.Errorf("no warning %s among %+v", code, r.Warnings)
	}
}

// do sends commands and fails the test where one is refused.
func do(t *testing.T, c *redis.Client, commands ...[]any) {
	t.Helper()
	for _, command := range commands {
		if err := c.Do(t.Context(), command...).Err(); err != nil {
			t.Fatalf("%v: %v", command, err)
		}
	}
}

// planter writes keys, many at once.
type planter struct {
	t    *testing.T
	c    *redis.Client
	pipe redis.Pipeliner
	seen map[string]bool
}

func plant(t *testing.T, c *redis.Client, sow func(p *planter)) {
	t.Helper()
	p := &planter{t: t, c: c, pipe: c.Pipeline(), seen: map[string]bool{}}
	sow(p)
	p.flush()
}

func (p *planter) flush() {
	p.t.Helper()
	if _, err := p.pipe.Exec(p.t.Context()); err != nil {
		p.t.Fatalf("planting keys: %v", err)
	}
}

func (p *planter) do(args ...any) {
	p.t.Helper()
	p.pipe.Do(p.t.Context(), args...)
	if p.pipe.Len() >= 2000 {
		p.flush()
	}
}

// never is the TTL of a key that has none.
const never = time.Duration(0)

// set plants a string.
func (p *planter) set(key string, ttl time.Duration) {
	p.t.Helper()
	if ttl == never {
		p.do("SET", key, value)
		return
	}
	p.do("SET", key, value, "PX", ttl.Milliseconds())
}

var value = strings.Repeat("a value such as a classification leaves. ", 5)

// kinds plants a value of each type, the hash so large that Redis frees it in the background.
var kinds = []func(p *planter, key string){
	func(p *planter, key string) { p.do("SET", key, value) },
	func(p *planter, key string) {
		// Over 64 fields, and one long value that keeps the hash from being packed into one piece of memory.
		fields := []any{"HSET", key, "long", value}
		for i := range 66 {
			fields = append(fields, i, "")
		}
		p.do(fields...)
	},
	func(p *planter, key string) { p.do("RPUSH", key, "a", "b", value) },
	func(p *planter, key string) { p.do("SADD", key, "a", "b", value) },
	func(p *planter, key string) { p.do("ZADD", key, 1, "a", 2, "b") },
	func(p *planter, key string) { p.do("XADD", key, "1-1", "field", value) },
}

// put plants a key of the i-th type, unless put has planted one of that name before.
func (p *planter) put(i int, key string, ttl time.Duration) {
	p.t.Helper()
	if p.seen[key] {
		return
	}
	p.seen[key] = true
	kinds[i%len(kinds)](p, key)
	if ttl != never {
		p.do("PEXPIRE", key, ttl.Milliseconds())
	}
}

func md5Of(i int) string {
	sum := md5.Sum([]byte(strconv.Itoa(i)))
	return hex.EncodeToString(sum[:])
}

func keyExists(t *testing.T, c *redis.Client, key string) bool {
	t.Helper()
	n, err := c.Exists(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

func dbSize(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	n, err := c.DBSize(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// countKeys is how many keys a pattern matches.
func countKeys(t *testing.T, c *redis.Client, pattern string) int64 {
	t.Helper()
	keys, err := c.Keys(t.Context(), pattern).Result()
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(keys))
}
