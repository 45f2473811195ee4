package janitor_test

import (
	"context"
	"fmt"
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

// eligibleAtCleanup is how many keys of plantSome the lowest level lets go, remainder how many it keeps.
const eligibleAtCleanup, remainder = 3000, 501

// plantSome plants a few thousand keys: results and old entries of the cache, sessions of nobody who is at work now, and
// one so large that what connections and scripts need changes no ratio.
func plantSome(t *testing.T, c *redis.Client) {
	t.Helper()
	do(t, c, []any{"SETRANGE", "ballast", 10 << 20, "x"})
	plant(t, c, func(p *planter) {
		for i := range eligibleAtCleanup - 500 {
			p.set("ml_results:"+md5Of(i), time.Hour)
		}
		for i := range 500 {
			p.set("combot_cache:1:"+md5Of(i), 10*time.Minute)
			p.set("combot_cache:1:django.contrib.sessions.cache"+md5Of(i), 15*time.Minute)
		}
	})
}

// inEveryPressure runs a test with memory to spare, and where every command that needs more of it is refused.
func inEveryPressure(t *testing.T, sow func(c *redis.Client), test func(t *testing.T, s *redistest.Server, c *redis.Client)) {
	t.Helper()
	for _, full := range []bool{false, true} {
		name := "with memory to spare"
		if full {
			name = "out of memory under noeviction"
		}
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			plantSome(t, c)
			sow(c)
			if full {
				do(t, c, []any{"CONFIG", "SET", "maxmemory-policy", "noeviction"}, []any{"CONFIG", "SET", "maxmemory", "500kb"})
				if err := c.Set(t.Context(), "one more", "x", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "OOM") {
					t.Fatalf("a SET beyond maxmemory: %v, want OOM", err)
				}
			}
			test(t, s, c)
		})
	}
}

func nothingMore(*redis.Client) {}

func activeUsers(n int64) func(*janitor.Request) {
	return func(r *janitor.Request) { r.ActiveUsers = n }
}
func usersFrom(from string) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Policy.Busy.UsersFrom = from }
}
func maxKeys(n int64) func(*janitor.Request) { return func(r *janitor.Request) { r.MaxKeys = n } }

func TestEachThresholdGivesItsLevel(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	for ratio, want := range map[float64]string{0.3: "ok", 0.58: "ok", 0.62: "cleanup", 0.73: "cleanup", 0.77: "force", 0.83: "force", 0.87: "critical", 1.2: "critical"} {
		r := clean(t, s, command(janitor.Plan), atRatio(t, c, ratio))
		if r.Level.String() != want {
			t.Errorf("at %g of the limit the level is %s, want %s", ratio, r.Level, want)
		}
		if (r.Outcome == janitor.Nothing) != (want == "ok") {
			t.Errorf("at %g of the limit a plan ends as %s", ratio, r.Outcome)
		}
	}
}

func TestATargetAboveTheLowestLevelIsRefusedAlsoWhereTheServerTellsTheLimit(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	all := dbSize(t, c)
	limit := int64(float64(usedMemory(t, c)) / 0.8) // level force
	do(t, c, []any{"CONFIG", "SET", "maxmemory", limit})
	for _, from := range []string{"maxmemory", "system"} {
		target := limit * 7 / 10
		if from == "system" {
			target = 1 << 60
		}
		for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun, janitor.Execute} {
			r := clean(t, s, command(cmd), func(r *janitor.Request) {
				r.Policy.Memory.Limit, r.Policy.Memory.Target = janitor.Limit{From: from}, janitor.Target{Bytes: target}
			})
			expect(t, r, janitor.Refused, janitor.BadPolicy, janitor.ExitPolicy)
			figures := []string{s.Addr, "memory.target", ttlpolicy.FormatSize(target), from}
			if from == "maxmemory" {
				figures = append(figures, ttlpolicy.FormatSize(limit*6/10))
			}
			for _, part := range figures {
				if !strings.Contains(r.Message, part) {
					t.Errorf("the message does not tell %s: %q", part, r.Message)
				}
			}
		}
	}
	if n := dbSize(t, c); n != all {
		t.Errorf("%d keys went", all-n)
	}
	r := clean(t, s, calm, func(r *janitor.Request) {
		r.Policy.Memory.Limit, r.Policy.Memory.Target = janitor.Limit{From: "maxmemory"}, janitor.Target{Bytes: limit * 6 / 10}
	})
	if r.Outcome == janitor.Refused || r.Level != ttlpolicy.Force {
		t.Errorf("with a target at the lowest level: %s (%s): %s", r.Outcome, r.Reason, r.Message)
	}
}

func TestTheThresholdsOf8GBAre4Point8And6And6Point8(t *testing.T) {
	s := redistest.Start(t)
	r := clean(t, s, command(janitor.Plan))
	want := janitor.ThresholdsReport{Cleanup: 8 << 30 * 60 / 100, Force: 8 << 30 * 75 / 100, Critical: 8 << 30 * 85 / 100}
	if got := r.Nodes[0].Memory.Levels; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestBelowTheThresholdItIsOverInAHandfulOfReadingCommands(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	do(t, c, []any{"SET", cooldownKey, "somebody", "PX", 60_000})
	pressed := atRatio(t, c, 0.5)
	for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun, janitor.Execute} {
		s.ResetStats()
		// It comes before the other gates, and it is not one of those that skip a run.
		r := clean(t, s, command(cmd), pressed, activeUsers(100), failIfSkipped)
		expect(t, r, janitor.Nothing, janitor.BelowThreshold, 0)
		total := int64(0)
		for name, calls := range s.CommandStats(t.Context()) {
			switch name {
			case "config|resetstat":
			case "info", "hello", "client|setname":
				total += calls
			default:
				t.Errorf("%s: %s was called %d times", cmd, name, calls)
			}
		}
		if total > 5 {
			t.Errorf("%s: %d commands were sent", cmd, total)
		}
	}
	if n := dbSize(t, c); n != eligibleAtCleanup+remainder+1 {
		t.Errorf("%d keys are left", n)
	}
}

func TestAnEarlierStepsWordStands(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	dead := redistest.Start(t)
	dead.Kill()
	replica := redistest.StartReplica(t, s)
	do(t, c, []any{"SET", cooldownKey, "somebody", "PX", 3_600_000}, []any{"HSET", leaseKey, "token", "another", "holder", "somebody"},
		[]any{"PEXPIRE", leaseKey, 20_000})
	below, pressed := atRatio(t, c, 0.5), atRatio(t, c, 0.67)
	unconfirmed := func(r *janitor.Request) { r.Confirmed = false }
	broad := func(r *janitor.Request) {
		r.Policy.Families = append(r.Policy.Families, janitor.Family{Name: "broad", Match: []string{"m*"}, Rule: ttlpolicy.Rule{Family: "broad", Lifetime: time.Hour}})
	}
	full := activeUsers(100)
	all := dbSize(t, c)
	for _, c := range []struct {
		name    string
		server  *redistest.Server
		changes []func(*janitor.Request)
		outcome janitor.Outcome
		reason  janitor.Reason
		exit    int
	}{
		{"a dead port before all of Redis", dead, []func(*janitor.Request){unconfirmed, broad, below}, janitor.Failed, "unreachable", 5},
		{"no --yes before the probe", s, []func(*janitor.Request){unconfirmed, below}, janitor.Refused, janitor.Guard, 4},
		{"no --yes before the gates", s, []func(*janitor.Request){unconfirmed, pressed, full}, janitor.Refused, janitor.Guard, 4},
		{"a broad pattern before the probe", s, []func(*janitor.Request){broad, below}, janitor.Refused, janitor.Guard, 4},
		{"a replica before the probe", replica, []func(*janitor.Request){below}, janitor.Refused, janitor.Replica, 4},
		{"the probe before the gates", s, []func(*janitor.Request){below, full}, janitor.Nothing, janitor.BelowThreshold, 0},
		{"busy before the cooldown", s, []func(*janitor.Request){pressed, full}, janitor.Skipped, janitor.Busy, 0},
		{"the cooldown before the lease", s, []func(*janitor.Request){pressed}, janitor.Skipped, janitor.Cooldown, 0},
		{"the lease at last", s, []func(*janitor.Request){pressed, ignoreCooldown}, janitor.Skipped, janitor.LeaseHeld, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, clean(t, c.server, c.changes...), c.outcome, c.reason, c.exit)
		})
	}
	if n := dbSize(t, c); n != all {
		t.Errorf("%d keys went", all-n)
	}
}

func TestWithOver20ActiveUsersOnlyTheCriticalLevelActs(t *testing.T) {
	inEveryPressure(t, nothingMore, func(t *testing.T, s *redistest.Server, c *redis.Client) {
		all := dbSize(t, c)
		pressed := atRatio(t, c, 0.8)
		r := clean(t, s, pressed, noTarget, activeUsers(21))
		expect(t, r, janitor.Skipped, janitor.Busy, 0)
		if u := r.Users; u.Active != 21 || u.Over != 20 || !u.Busy {
			t.Errorf("the report says of the users: %+v", u)
		}
		expect(t, clean(t, s, pressed, noTarget, activeUsers(21), failIfSkipped), janitor.Skipped, janitor.Busy, 3)
		for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun} {
			r := clean(t, s, command(cmd), pressed, noTarget, activeUsers(21), failIfSkipped)
			expect(t, r, janitor.Planned, janitor.Exhausted, 0)
			expectWarning(t, r, "busy")
		}
		if n := dbSize(t, c); n != all {
			t.Errorf("%d keys went", all-n)
		}
		expect(t, clean(t, s, pressed, noTarget, activeUsers(20), maxKeys(10)), janitor.Incomplete, janitor.MaxKeys, 3)
		expect(t, clean(t, s, pressed, noTarget, activeUsers(21), ignoreBusy, ignoreCooldown, maxKeys(10)), janitor.Incomplete, janitor.MaxKeys, 3)
		expect(t, clean(t, s, atRatio(t, c, 0.9), noTarget, activeUsers(1000), maxKeys(10)), janitor.Incomplete, janitor.MaxKeys, 3)
		expect(t, clean(t, s, pressed, atLevel(ttlpolicy.Critical), noTarget, activeUsers(1000), maxKeys(10)), janitor.Incomplete, janitor.MaxKeys, 3)
		if n := dbSize(t, c); n != all-40+1 { // and the cooldown
			t.Errorf("%d keys are left of %d", n, all)
		}
	})
}

// falling is a machine whose memory falls from one reading to the next.
type falling struct {
	probe.Machine
	used *[]int64
}

func (f falling) HostUsed(context.Context) (int64, error) {
	used := (*f.used)[0]
	*f.used = (*f.used)[1:]
	return used, nil
}

func TestUsersAreSparedAlsoWhereTheLevelFallsWhileTheLeaseIsTaken(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	all := dbSize(t, c)
	env := host(t.TempDir())
	env.Machine = falling{used: &[]int64{90, 80, 80}}
	r := checked(t, janitor.Run(t.Context(), request(s, noTarget, activeUsers(100), func(r *janitor.Request) {
		r.Policy.Memory.Source, r.Policy.Memory.Limit = "host", janitor.Limit{Bytes: 100}
	}), env))
	expect(t, r, janitor.Skipped, janitor.Busy, 0)
	if n := dbSize(t, c); n != all {
		t.Errorf("%d keys went", all-n)
	}
}

func TestUsersAreCountedFromAKeyByItsType(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	members := func(command, key string, n int) []any {
		args := []any{command, key}
		for i := range n {
			if command == "ZADD" {
				args = append(args, i)
			}
			args = append(args, "user "+strconv.Itoa(i))
			if command == "HSET" {
				args = append(args, "x")
			}
		}
		return args
	}
	for _, n := range []int{20, 21} {
		for kind, write := range map[string][]any{
			"a number": {"SET", "users", n}, "a set": members("SADD", "users", n), "a sorted set": members("ZADD", "users", n),
			"a hash": members("HSET", "users", n), "a list": members("RPUSH", "users", n), "a HyperLogLog": members("PFADD", "users", n),
		} {
			t.Run(fmt.Sprintf("%s of %d", kind, n), func(t *testing.T) {
				do(t, c, []any{"DEL", "users"}, write)
				r := clean(t, s, command(janitor.Plan), atLevel(ttlpolicy.Cleanup), usersFrom("key:users"))
				if u := r.Users; u.Active != int64(n) || u.Busy != (n > 20) || u.From != "key:users" {
					t.Errorf("the report says of the users: %+v", u)
				}
				if hasWarning(r, "busy") != (n > 20) || hasWarning(r, "users_unknown") {
					t.Errorf("warnings: %+v", r.Warnings)
				}
			})
		}
	}
	do(t, c, []any{"SET", "users", 21})
	expect(t, clean(t, s, atLevel(ttlpolicy.Cleanup), noTarget, usersFrom("key:users")), janitor.Skipped, janitor.Busy, 0)
	do(t, c, []any{"SET", "users", 20})
	expect(t, clean(t, s, atLevel(ttlpolicy.Cleanup), noTarget, usersFrom("key:users")), janitor.Evicted, janitor.Exhausted, 0)
}

func TestUsersThatCannotBeToldHoldNothingBack(t *testing.T) {
	for name, c := range map[string]struct {
		write []any
		from  string
	}{
		"a stream":               {[]any{"XADD", "users", "*", "f", "v"}, "key:users"},
		"text":                   {[]any{"SET", "users", "many"}, "key:users"},
		"a number below zero":    {[]any{"SET", "users", "-1"}, "key:users"},
		"a number too large":     {[]any{"SET", "users", "99999999999999999999"}, "key:users"},
		"a forbidden key":        {[]any{"SET", "users", "100"}, "key:users"},
		"a family that is not":   {[]any{"PING"}, "family:sessions"},
		"sessions without a TTL": {[]any{"PING"}, "family:sessions"},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			client := s.Client()
			plantSome(t, client)
			do(t, client, c.write, []any{"ACL", "SETUSER", "short", "on", ">pw", "~ml_results:*", "~combot_cache:*", "~redis-janitor*", "+@all"})
			changes := []func(*janitor.Request){atLevel(ttlpolicy.Cleanup), noTarget, usersFrom(c.from)}
			switch name {
			case "a forbidden key":
				changes = append(changes, asUser(s, "short"))
			case "a family that is not":
				changes = append(changes, func(r *janitor.Request) { r.Policy.Families = r.Policy.Families[:2] })
			case "sessions without a TTL":
				plant(t, client, func(p *planter) {
					for i := range 500 {
						p.set("combot_cache:1:django.contrib.sessions.cacheforever"+strconv.Itoa(i), never)
					}
				})
			}
			r := clean(t, s, changes...)
			expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
			expectWarning(t, r, "users_unknown")
			if r.Users.Busy {
				t.Errorf("the report says of the users: %+v", r.Users)
			}
		})
	}
}

// asUser connects as an ACL user whose password is "pw".
func asUser(s *redistest.Server, name string) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Connection.URLs = []string{"redis://" + name + ":pw@" + s.Addr + "/0"} }
}

func TestConnectionsAreCountedAsUsersWithAWarning(t *testing.T) {
	s := redistest.Start(t)
	plantSome(t, s.Client())
	for range 25 {
		if err := s.Client().Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r := clean(t, s, atLevel(ttlpolicy.Cleanup), usersFrom("clients"))
	expect(t, r, janitor.Skipped, janitor.Busy, 0)
	expectWarning(t, r, "users_are_connections")
	// The janitor's own are none of them.
	for _, changes := range [][]func(*janitor.Request){{}, {inDB(s, 1)}, {command(janitor.Plan)}, {command(janitor.DryRun)}} {
		others, err := s.Client().Info(t.Context(), "clients").Result()
		if err != nil {
			t.Fatal(err)
		}
		want, _ := keyspace.ParseInfo(others).Int("connected_clients")
		r := clean(t, s, append(changes, atLevel(ttlpolicy.Cleanup), usersFrom("clients"))...)
		if r.Users.Active != want {
			t.Errorf("%s: %d users, want %d", r.Command, r.Users.Active, want)
		}
	}
	expect(t, clean(t, s, atLevel(ttlpolicy.Cleanup), noTarget, usersFrom("none")), janitor.Evicted, janitor.Exhausted, 0)
}

func TestSessionsInUseAreCountedExactlyWhereASampleCannotTell(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	const session = "combot_cache:1:django.contrib.sessions.cache"
	plant(t, c, func(p *planter) {
		for i := range 100_000 {
			p.set(session+md5Of(i), 15*time.Minute)
		}
		for i := range 20 {
			p.set(session+"active"+strconv.Itoa(i), 29*time.Minute)
		}
	})
	plan := []func(*janitor.Request){command(janitor.Plan), atLevel(ttlpolicy.Cleanup)}
	look := func(active int64, counted bool) {
		t.Helper()
		s.ResetStats()
		r := clean(t, s, plan...)
		if r.Users.Busy != (active > 20) || hasWarning(r, "busy") != (active > 20) || hasWarning(r, "users_unknown") {
			t.Errorf("with %d sessions in use: %+v, warnings %+v", active, r.Users, r.Warnings)
		}
		if counted && r.Users.Active != active {
			t.Errorf("counted %d sessions in use, want %d", r.Users.Active, active)
		}
		stats := s.CommandStats(t.Context())
		if stats["randomkey"] == 0 || counted != (stats["scan"] > 0) {
			t.Errorf("with %d sessions in use: %d keys drawn, %d pages scanned", active, stats["randomkey"], stats["scan"])
		}
	}
	look(20, true)
	do(t, c, []any{"SET", session + "one more", "x", "PX", (29 * time.Minute).Milliseconds()})
	look(21, true)
	expect(t, clean(t, s, atLevel(ttlpolicy.Force)), janitor.Skipped, janitor.Busy, 0)
	// Where there are many, or none, a sample settles it.
	plant(t, c, func(p *planter) {
		for i := range 5000 {
			p.set(session+"crowd"+strconv.Itoa(i), 29*time.Minute)
		}
	})
	look(5021, false)
}

func TestACooldownIsForAllHostsAllDatabasesAndAllLevelsButCritical(t *testing.T) {
	inEveryPressure(t, func(c *redis.Client) {}, func(t *testing.T, s *redistest.Server, c *redis.Client) {
		pressed := atRatio(t, c, 0.8)
		few := maxKeys(100)
		expect(t, clean(t, s, pressed, noTarget, few), janitor.Incomplete, janitor.MaxKeys, 3)
		expectOwnKeys(t, s)
		rest := dbSize(t, c)
		r := clean(t, s, pressed, noTarget)
		expect(t, r, janitor.Skipped, janitor.Cooldown, 0)
		if !strings.Contains(r.Message, "critical") {
			t.Errorf("the message is %q", r.Message)
		}
		expect(t, clean(t, s, pressed, noTarget, failIfSkipped), janitor.Skipped, janitor.Cooldown, 3)
		expect(t, clean(t, s, pressed, noTarget, inDB(s, 3)), janitor.Skipped, janitor.Cooldown, 0)
		for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun} {
			r := clean(t, s, command(cmd), pressed, noTarget)
			expect(t, r, janitor.Planned, janitor.Exhausted, 0)
			expectWarning(t, r, "cooldown")
		}
		if n := dbSize(t, c); n != rest {
			t.Errorf("%d keys went in the cooldown", rest-n)
		}
		expect(t, clean(t, s, pressed, noTarget, ignoreCooldown, few), janitor.Incomplete, janitor.MaxKeys, 3)
		expect(t, clean(t, s, pressed, atLevel(ttlpolicy.Critical), noTarget, few), janitor.Incomplete, janitor.MaxKeys, 3)
		do(t, c, []any{"DEL", cooldownKey})
		expect(t, clean(t, s, pressed, noTarget, few), janitor.Incomplete, janitor.MaxKeys, 3)
		if n := dbSize(t, c); n != rest-300 {
			t.Errorf("%d keys went, want 300", rest-n)
		}
	})
}

func TestARunThatDeletesNothingStartsNoCooldown(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	expect(t, clean(t, s, atLevel(ttlpolicy.Force)), janitor.Nothing, janitor.TargetReached, 0)
	nothingGoes := func(r *janitor.Request) {
		for i := range r.Policy.Families {
			r.Policy.Families[i].Rule.OlderThan = nil
		}
	}
	r := clean(t, s, atLevel(ttlpolicy.Force), noTarget, nothingGoes)
	expect(t, r, janitor.Nothing, janitor.Exhausted, 0)
	if own, err := c.Keys(t.Context(), "redis-janitor*").Result(); err != nil || len(own) > 0 {
		t.Errorf("own keys: %q, %v", own, err)
	}
}

// holdLease runs a janitor that takes its time, and returns once it is at work. The returned function stops it.
func holdLease(t *testing.T, lockDir string, s *redistest.Server, c *redis.Client, changes ...func(*janitor.Request)) (stop func() *janitor.Report) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	reports := make(chan *janitor.Report, 1)
	all := dbSize(t, c)
	slow := func(r *janitor.Request) { r.MaxRate = 50 }
	go func() { reports <- cleanOn(ctx, t, lockDir, s, append(changes, slow)...) }()
	awaitTrue(t, "the first keys to go", func() bool { return countKeys(t, c, "[^r]*") < all })
	return func() *janitor.Report {
		cancel(&janitor.Signal{Name: "SIGTERM", Exit: janitor.ExitTerminate})
		return <-reports
	}
}

// awaitTrue polls. The time it allows only ends tests that fail anyway.
func awaitTrue(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestOneJanitorAtATimeAndTheOthersSayWhoItIs(t *testing.T) {
	inEveryPressure(t, nothingMore, func(t *testing.T, s *redistest.Server, c *redis.Client) {
		pressed := atRatio(t, c, 0.8)
		stop := holdLease(t, t.TempDir(), s, c, pressed, noTarget)
		holder := c.HGet(t.Context(), leaseKey, "holder").Val()
		if ttl := c.PTTL(t.Context(), leaseKey).Val(); ttl <= 0 || ttl > 20*time.Second {
			t.Errorf("the lease lasts for %s", ttl)
		}
		for wait, exit := range map[time.Duration]int{0: 0, 300 * time.Millisecond: 3} {
			r := clean(t, s, pressed, noTarget, ignoreCooldown, func(r *janitor.Request) { r.Wait, r.FailIfSkipped = wait, exit != 0 })
			expect(t, r, janitor.Skipped, janitor.LeaseHeld, exit)
			if holder == "" || !strings.Contains(r.Message, holder) {
				t.Errorf("%q does not name %q", r.Message, holder)
			}
		}
		// One that waits gets on when the first is done.
		waited := make(chan *janitor.Report, 1)
		dir := t.TempDir()
		s.ResetStats()
		go func() {
			waited <- cleanOn(t.Context(), t, dir, s, pressed, noTarget, ignoreCooldown, func(r *janitor.Request) { r.Wait = time.Minute })
		}()
		awaitTrue(t, "the second one to ask", func() bool { return s.CommandStats(t.Context())["client|setname"] > 0 })
		first := stop()
		expect(t, first, janitor.Incomplete, janitor.Interrupted, 143)
		second := <-waited
		expect(t, second, janitor.Evicted, janitor.Exhausted, 0)
		if sum := first.Totals.Evicted + second.Totals.Evicted; sum != eligibleAtCleanup {
			t.Errorf("they evicted %d and %d, want %d in all", first.Totals.Evicted, second.Totals.Evicted, eligibleAtCleanup)
		}
		expectOwnKeys(t, s)
	})
}

// leastPermissions are the field notes', which name none of the janitor's own keys.
var leastPermissions = "on >pw resetchannels -@all ~ml_results:* ~combot_cache:* +ping +hello +auth +select +info +dbsize +scan +pttl " +
	"+unlink +eval +evalsha +script|load +memory|usage +client|setname"

func setUser(t *testing.T, c *redis.Client, name, rules string) {
	t.Helper()
	command := []any{"ACL", "SETUSER", name, "reset"}
	for rule := range strings.FieldsSeq(rules) {
		command = append(command, rule)
	}
	do(t, c, command)
}

func TestALeaseWhoseReplyWasLostIsOursAllTheSame(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	p := redistest.Proxy(t, s.Addr)
	p.DropReplyTo(func(cmd []string) bool {
		return strings.EqualFold(cmd[0], "EVALSHA") && len(cmd) > 3 && cmd[3] == leaseKey
	})
	r := clean(t, s, atCleanup, noTarget, through(p))
	expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
	if hasWarning(r, "no_lease") || keyExists(t, c, leaseKey) {
		t.Errorf("the lease is there: %t; warnings: %+v", keyExists(t, c, leaseKey), r.Warnings)
	}
}

func TestWithoutPermissionForItsOwnKeysItCleansUnderThisHostsLock(t *testing.T) {
	inEveryPressure(t, nothingMore, func(t *testing.T, s *redistest.Server, c *redis.Client) {
		setUser(t, c, "least", leastPermissions)
		user, pressed := asUser(s, "least"), atRatio(t, c, 0.67)
		host := t.TempDir()
		stop := holdLease(t, host, s, c, pressed, noTarget, user)
		expect(t, cleanOn(t.Context(), t, host, s, pressed, noTarget, user), janitor.Skipped, janitor.LeaseHeld, 0)
		first := stop()
		expect(t, first, janitor.Incomplete, janitor.Interrupted, 143)
		second := cleanOn(t.Context(), t, host, s, pressed, noTarget, user)
		expect(t, second, janitor.Evicted, janitor.Exhausted, 0)
		for _, r := range []*janitor.Report{first, second} {
			expectWarning(t, r, "no_lease")
			expectWarning(t, r, "no_cooldown")
		}
		if sum := first.Totals.Evicted + second.Totals.Evicted; sum != eligibleAtCleanup {
			t.Errorf("they evicted %d and %d, want %d in all", first.Totals.Evicted, second.Totals.Evicted, eligibleAtCleanup)
		}
		if n := dbSize(t, c); n != remainder {
			t.Errorf("%d keys are left, want %d and none of the janitor's own", n, remainder)
		}
	})
}

func TestAPermissionThatLacksIsNamedBeforeAnythingIsDeleted(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	all := dbSize(t, c)
	for _, lacking := range []string{"+info", "+dbsize", "+scan", "+pttl", "+unlink", "+evalsha", "+script|load", "~ml_results:*"} {
		t.Run(lacking, func(t *testing.T) {
			setUser(t, c, "less", strings.Replace(leastPermissions, " "+lacking+" ", " ", 1))
			r := clean(t, s, atLevel(ttlpolicy.Cleanup), noTarget, asUser(s, "less"))
			expect(t, r, janitor.Refused, "noperm", 5)
			if !strings.Contains(r.Hint, "permission") {
				t.Errorf("the hint is %q", r.Hint)
			}
			if n := dbSize(t, c); n != all {
				t.Fatalf("%d keys went", all-n)
			}
		})
	}
}
