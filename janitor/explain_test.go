package janitor_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/patterns"
	"redis-janitor/ttlpolicy"
)

// about asks explain about keys.
func about(keys ...string) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Command, r.Keys = janitor.Explain, keys }
}

// verdictAt is what a level would do with a key.
func verdictAt(t *testing.T, k janitor.KeyReport, l ttlpolicy.Level) janitor.LevelReport {
	t.Helper()
	for _, v := range k.Levels {
		if v.Level == l {
			return v
		}
	}
	t.Fatalf("%s: level %s has no word: %+v", k.Key, l, k)
	return janitor.LevelReport{}
}

func TestExplainSaysOfEveryKeyWhatExecuteThenDoes(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantAll(t, c, 1)
	before := redistest.Snapshot(t.Context(), c)
	keys := slices.Sorted(maps.Keys(before))
	for _, l := range allLevels {
		t.Run(l.String(), func(t *testing.T) {
			r := clean(t, s, about(keys...), atLevel(l), noTarget, calm, protectPinned)
			expect(t, r, janitor.Planned, janitor.Explained, 0)
			clean(t, s, atLevel(l), noTarget, calm, protectPinned)
			left := remaining(t, c, before)
			going := 0
			for i, k := range r.Keys {
				_, stayed := left[keys[i]]
				v := verdictAt(t, k, l)
				if k.Key != patterns.Quote(keys[i]) || !k.Exists || v.Evicts == stayed || v.Evicts != (v.Reason == "") || !v.InForce || v.Message == "" {
					t.Errorf("%s stayed: %t, and explain had said %+v", k.Key, stayed, v)
				}
				if v.Evicts {
					going++
				}
			}
			if going < 50 || len(left) < 500 {
				t.Errorf("%d keys went and %d stayed: that shows little", going, len(left))
			}
			before, keys = left, slices.Sorted(maps.Keys(left))
		})
	}
}

func TestExplainTellsWhatDecides(t *testing.T) {
	s := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	c := s.Client()
	plant(t, c, func(p *planter) {
		p.set("ml_results:young", 119*time.Minute)
		p.set("combot_cache:1:middle", 25*time.Minute)
		p.set("combot_cache:1:forever", never)
		p.set("combot_cache:1:long", 3*time.Hour)
		p.set("celery", never)
		p.set("user:1", never)
		p.set("\x00\xff odd\n", never)
	})
	keys := []string{"ml_results:young", "combot_cache:1:middle", "combot_cache:1:forever", "combot_cache:1:long", "celery", "user:1", "\x00\xff odd\n", "ml_results:nobody", "redis-janitor:lease"}
	r := clean(t, s, about(keys...))
	expect(t, r, janitor.Nothing, janitor.Explained, 0) // memory is fine: nobody would look
	if len(r.Keys) != len(keys) {
		t.Fatalf("%d keys were explained", len(r.Keys))
	}
	for i, want := range []struct {
		family                   string
		cleanup, force, critical ttlpolicy.Reason
		says                     string
	}{
		{"ml-results", "", "", "", "any age"},
		{"app-cache", "fresh", "", "", "35m"},
		{"app-cache", "no_ttl", "no_ttl", "no_ttl", "no_ttl: keep"},
		{"app-cache", "ttl_over_lifetime", "ttl_over_lifetime", "ttl_over_lifetime", "lifetime of 1h"},
		{"", "protected", "protected", "protected", "protected"},
		{"", "no_family", "no_family", "no_family", "no family"},
		{"", "no_family", "no_family", "no_family", "no family"},
	} {
		k := r.Keys[i]
		if k.Family != want.family || !k.Exists || k.Type != "string" || k.Bytes == nil || *k.Bytes < 30 || k.IdleS == nil || (k.Pattern == "") != (want.family == "") {
			t.Errorf("%s: %+v", keys[i], k)
		}
		for l, reason := range map[ttlpolicy.Level]ttlpolicy.Reason{ttlpolicy.Cleanup: want.cleanup, ttlpolicy.Force: want.force, ttlpolicy.Critical: want.critical} {
			if v := verdictAt(t, k, l); v.Reason != reason || v.Evicts != (reason == "") || v.InForce {
				t.Errorf("%s at %s: %+v, want %q", keys[i], l, v, reason)
			}
		}
		if v := verdictAt(t, k, ttlpolicy.Cleanup); !strings.Contains(v.Message, want.says) {
			t.Errorf("%s: %q does not say %q", keys[i], v.Message, want.says)
		}
	}
	young, middle, forever, long, gone := r.Keys[0], r.Keys[1], r.Keys[2], r.Keys[3], r.Keys[7]
	if young.AgeMS == nil || *young.AgeMS < 60_000 || *young.AgeMS > 120_000 || *young.LifetimeS != 7200 || *young.TTLMS > 119*60_000 {
		t.Errorf("%+v", young)
	}
	if *middle.AgeMS/60_000 != 35 || *forever.Expires || !*long.Expires || forever.TTLMS != nil || forever.AgeMS != nil || long.AgeMS != nil || long.TTLMS == nil {
		t.Errorf("%+v, %+v, %+v", middle, forever, long)
	}
	if r.Keys[4].ProtectedBy != "celery*" || r.Keys[8].ProtectedBy != "redis-janitor*" {
		t.Errorf("%+v, %+v", r.Keys[4], r.Keys[8])
	}
	if gone.Exists || len(gone.Levels) > 0 || gone.Family != "ml-results" || !strings.Contains(gone.Message, "no such key") {
		t.Errorf("%+v", gone)
	}
}

func TestExplainKnowsTheWaterlineAndTheFloor(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plant(t, c, func(p *planter) {
		for i := range 30_000 { // enough for a sample
			p.set("ml_results:"+md5Of(i), time.Duration(10*60+i/5)*time.Second)
		}
	})
	pressed := atRatio(t, c, 0.8)
	keys := []string{"ml_results:" + md5Of(5), "ml_results:" + md5Of(29_995)}
	r := clean(t, s, about(keys...), pressed)
	expect(t, r, janitor.Planned, janitor.Explained, 0)
	if v := verdictAt(t, r.Keys[0], ttlpolicy.Force); !v.Evicts || !v.InForce {
		t.Errorf("the oldest: %+v", v)
	}
	if v := verdictAt(t, r.Keys[1], ttlpolicy.Force); v.Reason != ttlpolicy.ReasonAboveWaterline {
		t.Errorf("the youngest: %+v", v)
	}
	if v := verdictAt(t, r.Keys[1], ttlpolicy.Critical); !v.Evicts {
		t.Errorf("the youngest at a level that memory is not at: %+v", v)
	}
	keep := func(r *janitor.Request) { r.Policy.Families[0].Rule.KeepNewest = 1000 }
	r = clean(t, s, about(keys...), pressed, keep, noTarget)
	if v := verdictAt(t, r.Keys[0], ttlpolicy.Force); !v.Evicts {
		t.Errorf("the oldest, with a floor: %+v", v)
	}
	if v := verdictAt(t, r.Keys[1], ttlpolicy.Force); v.Reason != ttlpolicy.ReasonNewest {
		t.Errorf("the youngest, with a floor: %+v", v)
	}
	expect(t, clean(t, s, pressed), janitor.Evicted, janitor.TargetReached, 0)
	for key, want := range map[string]bool{keys[0]: false, keys[1]: true} {
		if keyExists(t, c, key) != want {
			t.Errorf("%s is there: %t", key, !want)
		}
	}
}

func TestExplainMentionsGatesReplicasAndIdleTimesItCannotRead(t *testing.T) {
	s := redistest.Start(t, "--maxmemory-policy", "allkeys-lfu")
	c := s.Client()
	plantSome(t, c)
	do(t, c, []any{"SET", cooldownKey, "somebody", "PX", 60_000})
	key := "ml_results:" + md5Of(1)
	idle := func(r *janitor.Request) { r.Policy.Families[0].Rule.MinIdle = time.Minute }
	r := clean(t, s, about(key), atLevel(ttlpolicy.Force), noTarget, activeUsers(100), idle)
	for _, code := range []string{"busy", "cooldown", "idle_unknown"} {
		expectWarning(t, r, code)
	}
	if v := verdictAt(t, r.Keys[0], ttlpolicy.Force); r.Keys[0].IdleS != nil || v.Reason != ttlpolicy.ReasonUnknown || r.ExitCode != 0 {
		t.Errorf("%+v", r.Keys[0])
	}
	copied := redistest.StartReplica(t, s)
	r = clean(t, copied, about(key), atLevel(ttlpolicy.Force), noTarget)
	expectWarning(t, r, "replica")
	expect(t, r, janitor.Planned, janitor.Explained, 0)
	// Whoever may not read a key is told so, and that it stays.
	setUser(t, c, "stranger", "on >pw ~user:* +@read +info +ping +client|setname +memory|usage")
	r = clean(t, s, about(key), asUser(s, "stranger"), atLevel(ttlpolicy.Force), noTarget, activeUsers(0), ignoreCooldown)
	if v := verdictAt(t, r.Keys[0], ttlpolicy.Force); v.Reason != ttlpolicy.ReasonUnknown || !strings.Contains(r.Keys[0].Message, "may not be read") {
		t.Errorf("%+v", r.Keys[0])
	}
	// Without the right to measure, the rest is told.
	setUser(t, c, "clerk", "on >pw ~* +info +ping +client|setname +pttl")
	r = clean(t, s, about(key), asUser(s, "clerk"), atLevel(ttlpolicy.Force), noTarget, activeUsers(0), ignoreCooldown)
	if v := verdictAt(t, r.Keys[0], ttlpolicy.Force); !v.Evicts || r.Keys[0].Bytes != nil || r.Keys[0].Type != "" {
		t.Errorf("%+v", r.Keys[0])
	}
}
