package janitor_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// pinned is protected besides what the built-in policy protects, so that protection meets keys that would go.
var pinned = []string{"ml_results:pinned:", "combot_cache:1:django.contrib.sessions.cachepinned"}

func protectPinned(r *janitor.Request) {
	for _, prefix := range pinned {
		r.Policy.Protect = append(r.Policy.Protect, prefix+"*")
	}
}

// ages are the TTLs that a family's keys are given in turn: pairs of the lowest and the highest. Each stays clear of the
// next lower border of the policy by three minutes, since TTLs run down while the test does.
type ages [][2]time.Duration

var (
	mlAges      = ages{{never, never}, {10 * time.Minute, time.Hour}, {time.Hour, 117 * time.Minute}, {125 * time.Minute, 24 * time.Hour}}
	appAges     = ages{{never, never}, {6 * time.Minute, 14 * time.Minute}, {18 * time.Minute, 29 * time.Minute}, {33 * time.Minute, 44 * time.Minute}, {48 * time.Minute, 59 * time.Minute}, {64 * time.Minute, 2 * time.Hour}}
	sessionAges = ages{{never, never}, {4 * time.Minute, 295 * time.Second}, {8 * time.Minute, 590 * time.Second}, {13 * time.Minute, 29 * time.Minute}, {34 * time.Minute, time.Hour}}
)

// ttl is the i-th key's.
func (a ages) ttl(i int) time.Duration {
	from, to := a[i%len(a)][0], a[i%len(a)][1]
	return from + (to-from)*time.Duration(i/len(a)%97)/97
}

// homes are where keys may go from, with the ages that they get.
var homes = []struct {
	prefix string
	ages   ages
}{
	{"ml_results:", mlAges},
	{"ml_results:1:ml_classification:", mlAges},
	{"ml_results:pinned:", mlAges},
	{"combot_cache:1:", appAges},
	{"combot_cache:", appAges},
	{"combot_cache:1:django.contrib.sessions.cache", sessionAges},
	{"combot_cache:1:django.contrib.sessions.cachepinned", sessionAges},
}

// strangers look like a family's and belong to none, or to another.
var strangers = []string{
	"ml_results.", "ml_results", "xml_results:", "ML_RESULTS:", "Ml_results:", " ml_results:", "\x00ml_results:", "user:ml_results:", "ml_results\n:",
	"ml-results:", "ml_results\\:", "combot_cacheX:", "combot_cache", "COMBOT_CACHE:1:", "user:combot_cache:1:", "combot_cache1:",
	"django.contrib.sessions.cache", "product_breakdown:", "ratelimit:", "celery-task-meta-", "_kombu.binding.", "unacked", "user:", "redis-janitors-friend:",
}

// awkward are the ends of names that break shells, protocols, globs and terminals.
var awkward = []string{
	"", " ", "a b", "\n", "a\r\nb", "\t", `"`, `"quoted"`, "'", "`id`", "$(id)", ";", "*", "?", "[", "]", "[a-z]", "[^a]", "[]", `\`, `\*`, `\\`, `\x00`,
	"\x00", "a\x00b", "\xff", "\xff\xfe\x00\x01", "\xc3", "\x1b[31mred\x1b[0m", "\x1b]0;title\a", "\u2028", "über", "日本語", "{tag}", "{", "}", ":", "::", "a:b:c",
	"%s%n", "+OK", "-ERR", "$5", "*3", "celery", "ml_results:", "redis-janitor:lease", "null", "0", "-1", strings.Repeat("long", 2500),
}

// plantAll fills a database with everything that was ever asked about: about 1,050 keys for each one of scale.
func plantAll(t *testing.T, c *redis.Client, scale int) {
	t.Helper()
	plant(t, c, func(p *planter) {
		for i := range 250 * scale {
			p.set("ml_results:"+md5Of(i), mlAges.ttl(i))
		}
		for i := range 200 * scale {
			p.set("ml_results:1:ml_classification:"+md5Of(i), mlAges.ttl(i))
		}
		for i := range 150 * scale {
			p.set("combot_cache:1:"+md5Of(i), appAges.ttl(i))
		}
		for i := range 300 * scale {
			p.set("combot_cache:1:django.contrib.sessions.cache"+md5Of(i), sessionAges.ttl(i))
		}
		for _, f := range homes {
			for i := range 5 * scale {
				p.put(i, f.prefix+"of every type:"+strconv.Itoa(i), f.ages.ttl(i/len(kinds)))
			}
			for i, end := range awkward {
				for turn := range f.ages {
					p.put(i+turn, f.prefix+end+strings.Repeat("\x01", turn), f.ages.ttl(i+turn))
				}
			}
		}
		for n, prefix := range strangers {
			for i := range 4 * scale {
				p.put(n+i, prefix+strconv.Itoa(i), mlAges.ttl(i))
			}
			for i, end := range awkward {
				// Whatever is put behind "ml_results" must not make it a member.
				if name := prefix + end; !strings.HasPrefix(name, "ml_results:") && !strings.HasPrefix(name, "combot_cache:") {
					p.put(i, name, mlAges.ttl(n+i))
				}
			}
		}
		p.put(2, "celery", never)
		p.put(3, "_kombu.binding.celery", never)
		p.put(1, "unacked", never)
		p.put(4, "unacked_index", never)
		p.put(5, "events", never)
	})
}

// belongs says by plain comparison whose a key is: "" for nobody's.
func belongs(key string) (family string, protected bool) {
	for _, prefix := range pinned {
		protected = protected || strings.HasPrefix(key, prefix)
	}
	switch {
	case strings.HasPrefix(key, "combot_cache:1:django.contrib.sessions.cache"):
		return "sessions", protected
	case strings.HasPrefix(key, "combot_cache:"):
		return "app-cache", protected
	case strings.HasPrefix(key, "ml_results:"):
		return "ml-results", protected
	}
	return "", protected
}

// allowance is the built-in policy's table: the highest remaining TTL that goes, in minutes; 0: none does.
var allowance = map[string]struct {
	lifetime, cleanup, force, critical time.Duration
	noTTL                              bool
}{
	"ml-results": {120, 120, 120, 120, true},
	"app-cache":  {60, 15, 30, 45, false},
	"sessions":   {30, 0, 5, 10, false},
}

// fate is what must become of a key.
type fate string

const (
	goes    fate = "evicted"
	fresh   fate = "fresh"
	noTTL   fate = "no_ttl"
	over    fate = "ttl_over_lifetime"
	guarded fate = "protected"
	foreign fate = "of no family"
	// either is a key whose TTL ran past a border while the test was at work.
	either fate = "either"
)

// fateOf decides about a key for itself, from its expiry and the times before and after the run.
func fateOf(name string, key redistest.Key, l ttlpolicy.Level, before, after time.Time) fate {
	family, protected := belongs(name)
	if family == "" {
		return foreign
	}
	if key.ExpiresAt >= 0 && key.ExpiresAt <= after.UnixMilli() {
		return either
	}
	rule := allowance[family]
	highest := map[ttlpolicy.Level]time.Duration{ttlpolicy.Cleanup: rule.cleanup, ttlpolicy.Force: rule.force, ttlpolicy.Critical: rule.critical}[l] * time.Minute
	at := func(now time.Time) fate {
		left := time.UnixMilli(key.ExpiresAt).Sub(now)
		switch {
		case protected:
			return guarded
		case key.ExpiresAt < 0 && rule.noTTL:
			return goes
		case key.ExpiresAt < 0:
			return noTTL
		case left > rule.lifetime*time.Minute:
			return over
		case left <= highest:
			return goes
		}
		return fresh
	}
	first, last := at(before), at(after)
	if first != last {
		return either
	}
	return first
}

// expectFates holds what a run left against what it should have, key by key, and the report's counts against both.
func expectFates(t *testing.T, r *janitor.Report, l ttlpolicy.Level, before, left map[string]redistest.Key, started, ended time.Time) {
	t.Helper()
	tally := map[string]map[fate]int64{"ml-results": {}, "app-cache": {}, "sessions": {}}
	wrong := 0
	complain := func(format string, args ...any) {
		if wrong++; wrong <= 20 {
			t.Helper()
			t.Errorf(format, args...)
		}
	}
	for name, key := range before {
		now, there := left[name]
		want := fateOf(name, key, l, started, ended)
		switch {
		case there && now != key:
			complain("%q was %+v and is %+v", name, key, now)
		case want == goes && there:
			complain("%q (%+v) is still there", name, key)
		case want != goes && want != either && !there:
			complain("%q (%+v, %s) is gone", name, key, want)
		}
		if family, _ := belongs(name); family != "" {
			tally[family][want]++
		}
	}
	if wrong > 20 {
		t.Errorf("and %d more", wrong-20)
	}
	for _, f := range r.Nodes[0].Families {
		is := tally[f.Name]
		if is[either] > 0 {
			t.Logf("%s: %d keys crossed a border while the test was at work", f.Name, is[either])
			continue
		}
		got := map[fate]int64{goes: f.Evicted, fresh: f.Kept.Fresh, noTTL: f.Kept.NoTTL, over: f.Kept.TTLOverLifetime, guarded: f.Kept.Protected}
		maps.DeleteFunc(got, func(_ fate, n int64) bool { return n == 0 })
		if !maps.Equal(got, is) {
			t.Errorf("%s: the report counts %v, and there were %v", f.Name, got, is)
		}
		if f.Eligible != f.Evicted {
			t.Errorf("%s: %d were eligible and %d evicted", f.Name, f.Eligible, f.Evicted)
		}
	}
}

// expectOwnKeys sees that a run leaves nothing of its own but the cooldown, and that not for long.
func expectOwnKeys(t *testing.T, s *redistest.Server) {
	t.Helper()
	for db := range 3 {
		keys, err := s.ClientDB(db).Keys(t.Context(), "redis-janitor:*").Result()
		if err != nil {
			t.Fatal(err)
		}
		want := []string{}
		if db == 0 {
			want = []string{cooldownKey}
		}
		if !slices.Equal(keys, want) {
			t.Errorf("own keys in DB %d: %q, want %q", db, keys, want)
		}
	}
	if ttl := s.Client().PTTL(t.Context(), cooldownKey).Val(); ttl <= 0 || ttl > 2*time.Minute {
		t.Errorf("the cooldown lasts for %s", ttl)
	}
}

var allLevels = []ttlpolicy.Level{ttlpolicy.Cleanup, ttlpolicy.Force, ttlpolicy.Critical}

// calm opens the gates that have tests of their own.
func calm(r *janitor.Request) { r.IgnoreBusy, r.IgnoreCooldown = true, true }

func TestExactlyTheKeysGoThatPolicyLevelAndAgeAllow(t *testing.T) {
	s := redistest.Start(t)
	c, other := s.Client(), s.ClientDB(1)
	plantAll(t, c, 100)
	plantAll(t, other, 5)
	if n := dbSize(t, c); n < 100_000 {
		t.Fatalf("only %d keys were planted", n)
	}
	untouched := redistest.Snapshot(t.Context(), other)
	before := redistest.Snapshot(t.Context(), c)
	// What a lower level lets go every higher one does, so one keyspace serves all three.
	for _, l := range allLevels {
		t.Run(l.String(), func(t *testing.T) {
			rehearsed := clean(t, s, command(janitor.DryRun), atLevel(l), noTarget, calm, protectPinned)
			expect(t, rehearsed, janitor.Planned, janitor.Exhausted, 0)
			started := time.Now()
			done := clean(t, s, atLevel(l), noTarget, calm, protectPinned)
			ended := time.Now()
			expect(t, done, janitor.Evicted, janitor.Exhausted, 0)
			if hasWarning(done, "duplicates_possible") {
				t.Error("duplicates on an idle server")
			}
			left := remaining(t, c, before)
			expectFates(t, done, l, before, left, started, ended)
			expectSameCounts(t, rehearsed, done)
			expectOwnKeys(t, s)
			if done.Totals.Evicted < 1000 || len(left) < 20_000 {
				t.Errorf("%d keys went and %d stayed: that shows little", done.Totals.Evicted, len(left))
			}
			before = left
		})
	}
	do(t, c, []any{"DEL", cooldownKey})
	if after := redistest.Snapshot(t.Context(), c); !maps.Equal(before, after) {
		t.Error("what stayed is not what it was")
	}
	if !maps.Equal(untouched, redistest.Snapshot(t.Context(), other)) {
		t.Error("DB 1 is not what it was")
	}
}

func TestOnlyTheDatabaseOfTheURLIsCleaned(t *testing.T) {
	s := redistest.Start(t)
	c, other := s.ClientDB(1), s.Client()
	plantAll(t, c, 5)
	plantAll(t, other, 5)
	untouched := redistest.Snapshot(t.Context(), other)
	before := redistest.Snapshot(t.Context(), c)
	for _, l := range allLevels {
		started := time.Now()
		done := clean(t, s, inDB(s, 1), atLevel(l), noTarget, calm, protectPinned)
		ended := time.Now()
		expect(t, done, janitor.Evicted, janitor.Exhausted, 0)
		left := remaining(t, c, before)
		expectFates(t, done, l, before, left, started, ended)
		expectOwnKeys(t, s)
		before = left
	}
	if after := redistest.Snapshot(t.Context(), c); !maps.Equal(before, after) {
		t.Error("what stayed is not what it was")
	}
	do(t, other, []any{"DEL", cooldownKey})
	if !maps.Equal(untouched, redistest.Snapshot(t.Context(), other)) {
		t.Error("DB 0 is not what it was")
	}
}

// remaining finds which of some keys are still there. A change of a value it does not see; one of an expiry it does.
func remaining(t *testing.T, c *redis.Client, of map[string]redistest.Key) map[string]redistest.Key {
	t.Helper()
	left := map[string]redistest.Key{}
	for names := range slices.Chunk(slices.Collect(maps.Keys(of)), 2000) {
		pipe := c.Pipeline()
		expiries := make([]*redis.Cmd, len(names))
		for i, name := range names {
			expiries[i] = pipe.Do(t.Context(), "PEXPIRETIME", name)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatalf("reading what is left: %v", err)
		}
		for i, name := range names {
			at, err := expiries[i].Int64()
			if err != nil {
				t.Fatalf("reading the expiry of %q: %v", name, err)
			}
			if at != -2 {
				key := of[name]
				key.ExpiresAt = at
				left[name] = key
			}
		}
	}
	own := countKeys(t, c, "redis-janitor:*")
	if total := dbSize(t, c); total != int64(len(left))+own {
		t.Errorf("%d keys are there, of which %d were and %d are the janitor's own", total, len(left), own)
	}
	return left
}

// expectSameCounts holds a dry run against the execute that followed it.
func expectSameCounts(t *testing.T, rehearsed, done *janitor.Report) {
	t.Helper()
	for i, f := range done.Nodes[0].Families {
		d := rehearsed.Nodes[0].Families[i]
		counts := func(f janitor.FamilyReport) any {
			return struct {
				Name                                                               string
				Matched, Eligible, Evicted, Refreshed, Vanished, Failed, Uncertain int64
				Kept                                                               janitor.Kept
			}{f.Name, f.Matched, f.Eligible, f.Evicted, f.Refreshed, f.Vanished, f.Failed, f.Uncertain, f.Kept}
		}
		if counts(d) != counts(f) {
			t.Errorf("the dry run counted\n%+v\nand the execute\n%+v", counts(d), counts(f))
		}
	}
	d, f := rehearsed.Totals, done.Totals
	d.FreedBytes, f.FreedBytes = 0, 0 // estimates
	if d != f {
		t.Errorf("the dry run's totals are %+v, the execute's %+v", d, f)
	}
	if d, f := rehearsed.Nodes[0].Keys, done.Nodes[0].Keys; d != f {
		t.Errorf("the dry run was over %d keys, the execute over %d", d, f)
	}
}

func TestWithATargetOnlyAllowedKeysGoTheOldestOfTheFirstFamiliesFirst(t *testing.T) {
	s := startLean(t)
	c := s.Client()
	plantAll(t, c, 30) // so many that plan samples them
	before := redistest.Snapshot(t.Context(), c)
	order := []string{"ml-results", "app-cache", "sessions"}
	for last, l := range allLevels {
		t.Run(l.String(), func(t *testing.T) {
			// Half-way through the level's last family, so that its waterline parts eligible keys.
			plan := clean(t, s, command(janitor.Plan), atLevel(l), noTarget, calm, protectPinned)
			expect(t, plan, janitor.Planned, janitor.Exhausted, 0)
			used := settledMemory(t, c)
			need := plan.Nodes[0].Families[last].Estimate.Bytes / 2
			for _, f := range plan.Nodes[0].Families[:last] {
				need += f.Estimate.Bytes
			}
			limit := int64(float64(used-need) / 0.55)
			started := time.Now()
			done := clean(t, s, atLevel(l), calm, protectPinned, func(r *janitor.Request) { r.Policy.Memory.Limit = janitor.Limit{Bytes: limit} })
			ended := time.Now()
			expect(t, done, janitor.Evicted, janitor.TargetReached, 0)
			m := done.Nodes[0].Memory
			if off := float64(m.AfterBytes - m.TargetBytes); off > 0.01*float64(need)+buffers/4 || off < -0.1*float64(need) {
				t.Errorf("memory came to %d, the target is %d, %d were to go", m.AfterBytes, m.TargetBytes, need)
			}
			left := remaining(t, c, before)
			gone, stayed := map[string][]int64{}, map[string][]int64{}
			for name, key := range before {
				now, there := left[name]
				want := fateOf(name, key, l, started, ended)
				switch {
				case there && now != key:
					t.Fatalf("%q was %+v and is %+v", name, key, now)
				case !there && want != goes && want != either:
					t.Fatalf("%q (%+v, %s) is gone", name, key, want)
				}
				family, _ := belongs(name)
				switch {
				case !there && want == goes:
					gone[family] = append(gone[family], key.ExpiresAt)
				case want == goes:
					stayed[family] = append(stayed[family], key.ExpiresAt)
				}
			}
			for i, family := range order {
				g, s := len(gone[family]), len(stayed[family])
				t.Logf("%s: %d went, %d might have gone", family, g, s)
				switch {
				case i < last && s > g/20, i == last && (g == 0 || s == 0), i > last && g > int(done.Totals.Evicted/100):
					t.Errorf("%s: %d went and %d that might have gone stayed, when the target lay in %s", family, g, s, order[last])
				}
			}
			// Never (-1) sorts before every time, as it should.
			went, rest := gone[order[last]], stayed[order[last]]
			byAge := slices.Sorted(slices.Values(slices.Concat(went, rest)))
			young := 0
			for _, expiry := range went {
				if expiry > byAge[len(went)-1] {
					young++
				}
			}
			// Memory moves by tens of kilobytes for connections' buffers, a hundred of these small keys' worth, and the
			// walk ends where memory says so. In SCAN's order two in three would be young.
			if young > len(went)/3+50 {
				t.Errorf("%d of the %d that went were not among the %d oldest", young, len(went), len(went))
			}
			before = left
		})
	}
	do(t, c, []any{"DEL", cooldownKey})
	if after := redistest.Snapshot(t.Context(), c); !maps.Equal(before, after) {
		t.Error("what stayed is not what it was")
	}
}

// readers are the commands that plan and dry-run may send: none of them changes anything.
var readers = []string{
	"HELLO", "AUTH", "SELECT", "PING", "CLIENT|SETNAME", "INFO", "DBSIZE", "SCAN", "PTTL", "RANDOMKEY", "TYPE", "MEMORY|USAGE", "OBJECT|IDLETIME", "OBJECT|ENCODING",
	"GET", "SCARD", "ZCARD", "HLEN", "LLEN", "PFCOUNT", "HGETALL",
}

func TestPlanDryRunAndExplainChangeNothingAndSendOnlyReadingCommands(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantAll(t, c, 100)
	plantAll(t, s.ClientDB(1), 1)
	before, other := redistest.Snapshot(t.Context(), c), redistest.Snapshot(t.Context(), s.ClientDB(1))
	s.ResetStats()
	m := s.Monitor(t)
	pressed := atRatio(t, c, 0.9)
	for _, changes := range [][]func(*janitor.Request){
		{command(janitor.Plan), pressed}, {command(janitor.DryRun), pressed}, {command(janitor.DryRun), atLevel(ttlpolicy.Force), noTarget},
	} {
		r := clean(t, s, append(changes, protectPinned)...)
		expect(t, r, janitor.Planned, r.Reason, 0)
	}
	explained := slices.Sorted(maps.Keys(before))[:1000]
	clean(t, s, about(explained...), pressed, protectPinned)
	calls := m.Calls()
	m.Stop()
	seen := map[string]int{}
	for _, call := range calls {
		name := call.Name
		if !slices.Contains(readers, name) && len(call.Args) > 0 {
			name += "|" + strings.ToUpper(call.Args[0])
		}
		seen[name]++
		if !slices.Contains(readers, name) || call.Lua {
			t.Fatalf("%s %.3q was sent", call.Name, call.Args)
		}
	}
	if seen["SCAN"] == 0 || seen["PTTL"] < 100_000 || seen["RANDOMKEY"] == 0 {
		t.Errorf("MONITOR saw %v", seen)
	}
	for name, calls := range s.CommandStats(t.Context()) {
		// These are the tests' own.
		if name = strings.ToUpper(name); !slices.Contains(readers, name) && !slices.Contains([]string{"CONFIG|RESETSTAT", "MONITOR", "ECHO"}, name) {
			t.Errorf("%s was called %d times", name, calls)
		}
	}
	if after := redistest.Snapshot(t.Context(), c); !maps.Equal(before, after) {
		t.Error("DB 0 is not what it was")
	}
	if after := redistest.Snapshot(t.Context(), s.ClientDB(1)); !maps.Equal(other, after) {
		t.Error("DB 1 is not what it was")
	}
}
