package health_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/health"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/probe"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// watched is a server with the history of its checks.
type watched struct {
	t     *testing.T
	s     *redistest.Server
	req   health.Request
	ahead time.Duration // how far its clock is ahead
}

func watch(t *testing.T, s *redistest.Server) *watched {
	t.Helper()
	return &watched{t: t, s: s, req: health.Request{
		Version: "test", Policy: janitor.Combot(), StateFile: filepath.Join(t.TempDir(), "state", "check.json"),
		Connection: keyspace.Options{URLs: []string{s.URL()}, ConnectTimeout: 5 * time.Second, CommandTimeout: 5 * time.Second, Workers: 1},
	}}
}

func (w *watched) check() *health.Report {
	w.t.Helper()
	return health.Check(w.t.Context(), w.req, health.Env{Now: func() time.Time { return time.Now().Add(w.ahead) }, Machine: probe.ThisMachine{Root: fstest.MapFS{}}})
}

// judged checks and fails the test unless the verdict is this one.
func (w *watched) judged(want health.State, reason string) *health.Report {
	w.t.Helper()
	r := w.check()
	if r.Outcome != want || r.Reason != reason || r.ExitCode != int(want) {
		w.t.Fatalf("%s (%s), exit %d: %s; want %s (%s)", r.Outcome, r.Reason, r.ExitCode, r.Message, want, reason)
	}
	return r
}

func lookUp(t *testing.T, c *redis.Client, hits, misses int) {
	t.Helper()
	if err := c.Set(t.Context(), "there", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for range hits {
		if err := c.Get(t.Context(), "there").Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range misses {
		if err := c.Get(t.Context(), "not there").Err(); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
	}
}

func code(r *health.Report, code string) string {
	for _, w := range r.Warnings {
		if w.Code == code {
			return w.Message
		}
	}
	return ""
}

func TestTheHitRateIsThatSinceTheLastCheck(t *testing.T) {
	s := redistest.Start(t)
	w, c := watch(t, s), s.Client()
	lookUp(t, c, 0, 1000)
	first := w.judged(health.OK, "ok")
	if first.Nodes[0].Interval != nil || code(first, "no_history") == "" || !strings.Contains(first.Message, "no history yet") {
		t.Errorf("the first check does not say that it has no history: %s", first.Message)
	}
	lookUp(t, c, 90, 10)
	second := w.judged(health.OK, "ok")
	if rate := second.Nodes[0].Interval.HitRate; rate == nil || *rate != 0.9 {
		t.Errorf("hit rate %v, want 0.9: since the server started it is 0.08", rate)
	}
	lookUp(t, c, 5, 15)
	third := w.judged(health.Warning, "hit_rate")
	if rate := third.Nodes[0].Interval.HitRate; rate == nil || *rate != 0.25 {
		t.Errorf("hit rate %v, want 0.25", rate)
	}
	if err := c.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	lookUp(t, c, 30, 10)
	if rate := w.judged(health.OK, "ok").Nodes[0].Interval.HitRate; rate == nil || *rate != 0.75 {
		t.Errorf("hit rate %v after a reset of the statistics, want 0.75", rate)
	}
}

func TestLookingAtKeysDoesNotPassForACacheThatHits(t *testing.T) {
	s := redistest.Start(t)
	w, c := watch(t, s), s.Client()
	for i := range 3000 {
		if err := c.Set(t.Context(), "ml_results:"+strconv.Itoa(i), "value", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	w.judged(health.OK, "ok")
	lookUp(t, c, 0, 100)
	policy := janitor.Combot()
	policy.Memory.Target = janitor.Target{None: true}
	policy.Families[0].Rule.MinIdle = time.Hour // has idle times asked for, too
	r := janitor.Run(t.Context(), janitor.Request{Command: janitor.DryRun, Policy: policy, Connection: w.req.Connection, Level: ttlpolicy.Force, Pace: "fast", ActiveUsers: -1},
		janitor.Env{Now: time.Now, Log: slog.New(slog.DiscardHandler), LockDir: t.TempDir(), Name: "test", Random: rand.New(rand.NewPCG(1, 2))})
	if r.ExitCode != 0 || r.Totals.Matched < 3000 {
		t.Fatalf("%+v", r)
	}
	if i := w.judged(health.Warning, "hit_rate").Nodes[0].Interval; i.HitRate == nil || *i.HitRate > 0.05 {
		t.Errorf("nothing but misses came to %d hits and %d misses", *i.Hits, *i.Misses)
	}
}

func TestMemoryIsReadAndJudgedAsThePolicySays(t *testing.T) {
	s := redistest.Start(t)
	w := watch(t, s)
	w.judged(health.OK, "ok")
	used := w.check().Nodes[0].Memory.UsedBytes
	// Between the two thresholds, and beyond both, with room for what each connection adds.
	w.req.Policy.Memory.Limit = janitor.Limit{Bytes: used * 1000 / 825}
	w.req.Policy.Alerts.MemoryCritical = 0.99
	if r := w.judged(health.Warning, "memory"); !strings.Contains(r.Message, "is above 80%") {
		t.Error(r.Message)
	}
	w.req.Policy.Memory.Limit = janitor.Limit{Bytes: used / 2}
	if r := w.judged(health.Critical, "memory"); r.Level.String() != "critical" || r.Hint == "" {
		t.Errorf("level %s, hint %q", r.Level, r.Hint)
	}
	w.req.Policy.Memory.Source = "rss"
	if m := w.check().Nodes[0].Memory; m.Source != "rss" || m.UsedBytes != m.RSSBytes || m.RSSBytes == 0 {
		t.Errorf("source rss reads %+v", m)
	}
	w.req.Policy.Memory.Source, w.req.Policy.Memory.Limit = "redis", janitor.Limit{From: "maxmemory"}
	if r := w.judged(health.Unknown, "policy"); !strings.Contains(r.Message, "maxmemory") {
		t.Error(r.Message)
	}
	if err := s.Client().ConfigSet(t.Context(), "maxmemory", strconv.FormatInt(100*used, 10)).Err(); err != nil {
		t.Fatal(err)
	}
	if m := w.judged(health.OK, "ok").Nodes[0].Memory; m.LimitBytes != 100*used {
		t.Errorf("limit %d, want maxmemory, %d", m.LimitBytes, 100*used)
	}
	w.req.Policy.Memory.Target = janitor.Target{Bytes: 70 * used}
	r := w.judged(health.Unknown, "policy")
	for _, part := range []string{s.Addr, "memory.target", ttlpolicy.FormatSize(70 * used), ttlpolicy.FormatSize(60 * used)} {
		if !strings.Contains(r.Message, part) {
			t.Errorf("the message does not tell %s: %q", part, r.Message)
		}
	}
}

// The notes' own trap: thresholds of 8 GB on a Redis with 512 MB.
func TestAnAlertThatCanNeverComeIsCalledOut(t *testing.T) {
	r := watch(t, redistest.Start(t, "--maxmemory", "512mb")).judged(health.OK, "ok")
	if !strings.Contains(r.Message, "never above 80% since maxmemory is 512.00 MB") || !strings.Contains(code(r, "level_unreachable"), "--memory-limit maxmemory") {
		t.Errorf("not called out: %s %v", r.Message, r.Warnings)
	}
}

func TestGrowingMemoryIsForeseenToReachEveryThreshold(t *testing.T) {
	s := redistest.Start(t)
	w := watch(t, s)
	w.req.Policy.Memory.Limit = janitor.Limit{Bytes: 64 << 20}
	w.judged(health.OK, "ok")
	if err := s.Client().Set(t.Context(), "filler", strings.Repeat("x", 10<<20), 0).Err(); err != nil {
		t.Fatal(err)
	}
	// A second may have been one client's buffers.
	w.ahead = 9 * time.Minute
	if r := w.judged(health.OK, "ok"); r.Nodes[0].Memory.Trend != nil || !strings.Contains(r.Message, "no trend yet") {
		t.Errorf("a trend was told after 9 minutes: %s", r.Message)
	}
	w.ahead = 11 * time.Minute
	r := w.judged(health.OK, "ok")
	m := r.Nodes[0].Memory
	if m.Trend == nil || m.Trend.BytesPerHour <= 0 || !strings.Contains(r.Message, "rising by") || !strings.Contains(r.Message, "80% in ") {
		t.Fatalf("10 MiB more are no trend: %+v, %s", m.Trend, r.Message)
	}
	var names []string
	last := int64(-1)
	for _, threshold := range m.Thresholds {
		names = append(names, threshold.Name)
		if threshold.InS == nil || *threshold.InS < last || threshold.At == nil {
			t.Fatalf("%s is not foreseen after %d s: %+v", threshold.Name, last, threshold)
		}
		last = *threshold.InS
	}
	if want := []string{"cleanup", "force", "alert_warning", "alert_critical", "critical"}; !slices.Equal(names, want) {
		t.Errorf("thresholds %v, want %v", names, want)
	}
}

func TestExpiredKeysAreCounted(t *testing.T) {
	s := redistest.Start(t)
	w, c := watch(t, s), s.Client()
	w.judged(health.OK, "ok")
	const keys = 20
	for i := range keys {
		if err := c.Set(t.Context(), "brief:"+strconv.Itoa(i), "v", time.Millisecond).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for c.DBSize(t.Context()).Val() > 0 { // asking for a key would be a lookup
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
	n := w.judged(health.OK, "ok").Nodes[0]
	if n.Interval == nil || n.Interval.ExpiredKeys == nil || *n.Interval.ExpiredKeys != keys || *n.Totals.ExpiredKeys != keys || *n.Interval.EvictedKeys != 0 {
		t.Errorf("of %d keys that expired the check says %+v, in all %+v", keys, n.Interval, n.Totals)
	}
	if n := w.judged(health.OK, "ok").Nodes[0]; *n.Interval.ExpiredKeys != 0 || *n.Totals.ExpiredKeys != keys {
		t.Errorf("counted again: %d", *n.Interval.ExpiredKeys)
	}
}

func TestTooFewLookupsAreNoHitRate(t *testing.T) {
	s := redistest.Start(t)
	w := watch(t, s)
	w.judged(health.OK, "ok")
	if r := w.judged(health.OK, "ok"); !strings.Contains(r.Message, "hit rate unknown (no lookups ") || r.Nodes[0].Interval.HitRate != nil {
		t.Errorf("%s", r.Message)
	}
	lookUp(t, s.Client(), 0, 9)
	if r := w.judged(health.OK, "ok"); !strings.Contains(r.Message, "hit rate unknown (9 lookups in ") || r.Nodes[0].Interval.HitRate != nil {
		t.Errorf("9 lookups tell %v: %s", r.Nodes[0].Interval.HitRate, r.Message)
	}
}

func TestWhatTheServerRefusedAndGaveUpIsCounted(t *testing.T) {
	s := redistest.Start(t, "--maxclients", "3", "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random")
	w, c := watch(t, s), s.Client()
	w.judged(health.OK, "ok")
	value := strings.Repeat("x", 100<<10)
	for i := range 40 {
		if err := c.Set(t.Context(), strconv.Itoa(i), value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Set(t.Context(), "brief", "v", time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.LPush(t.Context(), "39", "v").Err(); err == nil {
		t.Fatal("LPUSH on a string was accepted")
	}
	if err := c.Do(t.Context(), "keys", "*").Err(); err != nil {
		t.Fatal(err)
	}
	crowd(t, s)
	// The crowd is gone from the server's books a moment after it left.
	var r *health.Report
	for r = w.check(); r.Outcome == health.Unknown; r = w.check() {
		if t.Context().Err() != nil {
			t.Fatal(r.Message)
		}
	}
	if r.Reason != "rejected_connections" {
		t.Errorf("%s: %s", r.Reason, r.Message)
	}
	i := r.Nodes[0].Interval
	if *i.RejectedConnections < 1 || *i.EvictedKeys < 1 || *i.CommandErrors < 1 {
		t.Errorf("rejected %d, evicted %d, errors %d: want at least 1 of each", *i.RejectedConnections, *i.EvictedKeys, *i.CommandErrors)
	}
	if !slices.Contains(i.Errors, health.ErrorReport{Code: "WRONGTYPE", Count: 1}) {
		t.Errorf("errors %v, want WRONGTYPE among them", i.Errors)
	}
	if !slices.ContainsFunc(i.Commands, func(c health.CommandReport) bool { return c.Name == "keys" && c.Calls == 1 && c.MeanUS > 0 }) {
		t.Errorf("commands %v, want one KEYS and its time", i.Commands)
	}
	for _, want := range []string{"connections rejected in", "keys evicted by Redis itself in", "command errors in"} {
		if !strings.Contains(r.Message, want) {
			t.Errorf("%q is missing from %s", want, r.Message)
		}
	}
}

// crowd connects more clients than the server takes, and leaves.
func crowd(t *testing.T, s *redistest.Server) {
	t.Helper()
	rejected := 0
	var clients []*redis.Client
	for range 4 {
		c := s.Client()
		clients = append(clients, c)
		if err := c.Ping(t.Context()).Err(); err != nil {
			rejected++
		}
	}
	for _, c := range clients {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if rejected == 0 {
		t.Fatal("nobody was rejected")
	}
}

func TestARestartOfRedisIsNoticedAndItsCountersBeginAnew(t *testing.T) {
	s := redistest.Start(t)
	w := watch(t, s)
	lookUp(t, s.Client(), 1000, 0)
	w.judged(health.OK, "ok")
	s.Restart(t)
	lookUp(t, s.Client(), 30, 10)
	r := w.judged(health.Warning, "redis_restarts")
	if n := r.Nodes[0]; n.Restarts != 1 || n.Interval == nil || *n.Interval.HitRate != 0.75 {
		t.Errorf("restarts %d, interval %+v", n.Restarts, n.Interval)
	}
	// The next check still says so: a monitor asks several times before it wakes somebody.
	w.judged(health.Warning, "redis_restarts")
}

func TestWorkersAreCountedBesideRedis(t *testing.T) {
	w := watch(t, redistest.Start(t))
	w.req.WorkerLog = filepath.Join(t.TempDir(), "server.log")
	if r := w.judged(health.Unknown, "worker_restarts"); !strings.Contains(r.Message, "no such file") && !strings.Contains(r.Message, "not exist") {
		t.Error(r.Message)
	}
	write(t, w.req.WorkerLog, 10)
	if r := w.judged(health.OK, "ok"); *r.Workers.Restarts != 10 || r.Workers.Over != 10 {
		t.Errorf("%+v", r.Workers)
	}
	write(t, w.req.WorkerLog, 11)
	w.judged(health.Warning, "worker_restarts")
}

func TestACheckSendsOnlyCommandsThatRead(t *testing.T) {
	s := redistest.Start(t)
	w := watch(t, s)
	s.ResetStats()
	w.judged(health.OK, "ok")
	w.judged(health.OK, "ok")
	for name, calls := range s.CommandStats(t.Context()) {
		if !slices.Contains([]string{"info", "hello", "client|setname", "ping", "select", "config|resetstat"}, name) && calls > 0 {
			t.Errorf("%s was sent %d times", name, calls)
		}
	}
	if keys := s.Client().DBSize(t.Context()).Val(); keys != 0 {
		t.Errorf("it left %d keys", keys)
	}
}

func TestACheckNeedsNoMoreThanItsDocumentedRights(t *testing.T) {
	page, err := os.ReadFile("../../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "\n```acl\n")
	block, _, found := strings.Cut(block, "\n```\n")
	if !found {
		t.Fatal("docs/check.md has no rules")
	}
	var command []any
	for _, word := range strings.Fields(block) {
		command = append(command, strings.Replace(word, "PASSWORD", "secret", 1))
	}
	s := redistest.Start(t)
	if err := s.Client().Do(t.Context(), command...).Err(); err != nil {
		t.Fatal(err)
	}
	w := watch(t, s)
	w.req.Connection.Username, w.req.Connection.Password = "monitor", "secret"
	w.judged(health.OK, "ok")
	if r := w.judged(health.OK, "ok"); r.Nodes[0].Interval == nil || r.Nodes[0].Interval.MeanUS == nil || len(r.Warnings) > 0 {
		t.Errorf("something is missing: %+v, %v", r.Nodes[0].Interval, r.Warnings)
	}
}

func TestAReplicaMayBeChecked(t *testing.T) {
	s := redistest.StartReplica(t, redistest.Start(t))
	if r := watch(t, s).judged(health.OK, "ok"); code(r, "replica") == "" {
		t.Errorf("nothing says that it is a replica: %v", r.Warnings)
	}
}

func TestWhatCannotBeToldIsUnknown(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "secret")
	w := watch(t, s)
	if r := w.judged(health.Unknown, "auth"); r.Hint == "" || len(r.Nodes) != 0 {
		t.Errorf("hint %q, nodes %v", r.Hint, r.Nodes)
	}
	w.req.Connection.Password = "secret"
	w.judged(health.OK, "ok")
	s.Kill()
	w.judged(health.Unknown, "unreachable")
	w.req.Connection.URLs = []string{"http://" + s.Addr}
	w.judged(health.Unknown, "usage")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&janitor.Signal{Name: "SIGTERM", Exit: janitor.ExitTerminate})
	r := health.Check(ctx, w.req, health.Env{Now: time.Now})
	if r.Outcome != health.Unknown || r.Reason != "interrupted" {
		t.Errorf("%s (%s): %s", r.Outcome, r.Reason, r.Message)
	}
}

func TestAHistoryThatCannotBeKeptCostsTheTrendAndNotTheCheck(t *testing.T) {
	w := watch(t, redistest.Start(t))
	w.req.StateFile = t.TempDir()
	if r := w.judged(health.OK, "ok"); code(r, "state_unwritten") == "" {
		t.Errorf("nothing is said: %v", r.Warnings)
	}
	w.req.StateFile = ""
	if r := w.judged(health.OK, "ok"); code(r, "no_state") == "" {
		t.Errorf("nothing is said: %v", r.Warnings)
	}
	w.req.StateFile = filepath.Join(t.TempDir(), "check.json")
	writeFile(t, w.req.StateFile, `{"schema":"redis-janitor/check-state/v1","no`)
	if r := w.judged(health.OK, "ok"); code(r, "state_corrupt") == "" {
		t.Errorf("nothing is said: %v", r.Warnings)
	}
	if r := w.judged(health.OK, "ok"); r.Nodes[0].Interval == nil {
		t.Error("the history did not begin anew")
	}
}

// write makes a worker log with so many boots just now.
func write(t *testing.T, log string, boots int) {
	t.Helper()
	at := time.Now().Format("[2006-01-02 15:04:05 -0700]")
	writeFile(t, log, strings.Repeat(at+" [7] [INFO] Booting worker with pid: 8\n", boots))
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestACheckOfAClusterAsksEveryPrimaryAndNamesOneThatIsDown(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	w := watch(t, cluster.Masters[0])
	if r := w.judged(health.OK, "ok"); len(r.Nodes) != 3 {
		t.Errorf("%d rows", len(r.Nodes))
	}
	cluster.Masters[1].Kill()
	r := w.judged(health.Unknown, "node_down")
	if len(r.Nodes) != 2 || !strings.Contains(r.Message, cluster.Masters[1].Addr) || code(r, "node_down") == "" {
		t.Errorf("%d rows: %s", len(r.Nodes), r.Message)
	}
}
