package ttlpolicy

import (
	"math"
	"testing"
	"time"
)

const hour = time.Hour

// appCache is a family of the built-in policy.
func appCache() Rule {
	return Rule{
		Family: "app-cache", Lifetime: hour,
		OlderThan: map[Level]time.Duration{Cleanup: 45 * time.Minute, Force: 30 * time.Minute, Critical: 15 * time.Minute},
	}
}

func expiring(ttl time.Duration) Facts { return Facts{Expiry: Expiring, TTL: ttl} }

func TestTheFirstReasonThatKeepsAKeyIsGiven(t *testing.T) {
	plain := appCache()
	evicting := appCache()
	evicting.EvictNoTTL = true
	idle := evicting
	idle.MinIdle = 10 * time.Minute
	partial := evicting
	partial.OlderThan = map[Level]time.Duration{Force: 0}
	badAge := evicting
	badAge.OlderThan = map[Level]time.Duration{Force: 61 * time.Minute}
	negative := evicting
	negative.OlderThan = map[Level]time.Duration{Force: -1}
	atOK := evicting
	atOK.OlderThan = map[Level]time.Duration{OK: 0, Force: 0}

	used := func(f Facts, idle time.Duration) Facts { f.IdleKnown, f.Idle = true, idle; return f }
	protected := func(f Facts) Facts { f.Protected = true; return f }
	persistent := Facts{Expiry: Persistent}
	const none = ReasonNone

	for name, tt := range map[string]struct {
		rule  Rule
		level Level
		facts Facts
		want  Reason
	}{
		"nothing known":                         {evicting, Force, Facts{}, "unknown"},
		"missing":                               {evicting, Force, Facts{Expiry: Missing}, "unknown"},
		"no such expiry":                        {evicting, Force, Facts{Expiry: 9}, "unknown"},
		"TTL below zero":                        {evicting, Force, expiring(-1), "unknown"},
		"old enough":                            {plain, Force, expiring(10 * time.Minute), none},
		"age exactly at the limit":              {plain, Force, expiring(30 * time.Minute), none},
		"a nanosecond too young":                {plain, Force, expiring(30*time.Minute + 1), "fresh"},
		"about to end":                          {plain, Force, expiring(0), none},
		"just written":                          {plain, Force, expiring(hour), "fresh"},
		"TTL a nanosecond over the lifetime":    {plain, Force, expiring(hour + 1), "ttl_over_lifetime"},
		"another level's age":                   {plain, Critical, expiring(45 * time.Minute), none},
		"level left out":                        {partial, Cleanup, expiring(0), "fresh"},
		"any age":                               {partial, Force, expiring(hour), none},
		"any age, TTL over the lifetime":        {partial, Force, expiring(hour + 1), "ttl_over_lifetime"},
		"level left out, TTL over the lifetime": {partial, Cleanup, expiring(hour + 1), "ttl_over_lifetime"},
		"level ok":                              {evicting, OK, expiring(0), "fresh"},
		"level ok with an age":                  {atOK, OK, expiring(0), "fresh"},
		"an age above the lifetime":             {badAge, Force, expiring(0), "fresh"},
		"an age below zero":                     {negative, Force, expiring(0), "fresh"},
		"no lifetime":                           {Rule{OlderThan: map[Level]time.Duration{Force: 0}}, Force, expiring(0), "fresh"},
		"no TTL":                                {plain, Force, persistent, "no_ttl"},
		"no TTL, to be evicted":                 {evicting, Force, persistent, none},
		"no TTL, level left out":                {partial, Cleanup, persistent, "no_ttl"},
		"no TTL, an age that makes no sense":    {badAge, Force, persistent, "no_ttl"},
		"no TTL, in use":                        {idle, Force, used(persistent, 9*time.Minute), "not_idle"},
		"no TTL, unused":                        {idle, Force, used(persistent, 10*time.Minute), none},
		"no TTL, use unknown":                   {idle, Force, persistent, "unknown"},
		"old but in use":                        {idle, Force, used(expiring(0), 10*time.Minute-1), "not_idle"},
		"old and unused exactly so long":        {idle, Force, used(expiring(0), 10*time.Minute), none},
		"old, use unknown":                      {idle, Force, expiring(0), "unknown"},
		"fresh before not idle":                 {idle, Force, used(expiring(hour), 0), "fresh"},
		"fresh before use unknown":              {idle, Force, expiring(hour), "fresh"},
		"over the lifetime before not idle":     {idle, Force, used(expiring(2*hour), 0), "ttl_over_lifetime"},
		"idle asked nothing":                    {plain, Force, used(expiring(0), 0), none},
		"protected before unknown":              {evicting, Force, protected(Facts{}), "protected"},
		"protected before no_ttl":               {plain, Force, protected(persistent), "protected"},
		"protected before over the lifetime":    {plain, Force, protected(expiring(2 * hour)), "protected"},
		"protected before fresh":                {plain, Force, protected(expiring(hour)), "protected"},
		"protected though old":                  {plain, Force, protected(expiring(0)), "protected"},
	} {
		v := tt.rule.Judge(tt.level, tt.facts)
		if v.Reason != tt.want || v.Eligible != (tt.want == none) {
			t.Errorf("%s: %+v, want reason %q", name, v, tt.want)
		}
	}
}

func TestAgeIsLifetimeLessRemainingTTL(t *testing.T) {
	r := appCache()
	for _, tt := range []struct {
		facts Facts
		age   time.Duration
		known bool
	}{
		{expiring(0), hour, true},
		{expiring(20 * time.Minute), 40 * time.Minute, true},
		{expiring(hour), 0, true},
		{Facts{Expiry: Expiring, TTL: hour, Protected: true}, 0, true},
		{expiring(hour + 1), 0, false},
		{expiring(-1), 0, false},
		{Facts{Expiry: Persistent}, 0, false},
		{Facts{Expiry: Missing}, 0, false},
		{Facts{}, 0, false},
	} {
		if v := r.Judge(Force, tt.facts); v.Age != tt.age || v.AgeKnown != tt.known {
			t.Errorf("%+v has age %v (known %v), want %v (%v)", tt.facts, v.Age, v.AgeKnown, tt.age, tt.known)
		}
	}
}

func FuzzJudgeKeepsWhateverIsUnknownProtectedOrOverItsLifetime(f *testing.F) {
	f.Add(int64(hour), int64(30*time.Minute), int64(0), uint8(2), int64(10*time.Minute), false, false, int64(0), true, uint8(2))
	f.Add(int64(hour), int64(0), int64(time.Minute), uint8(1), int64(0), false, true, int64(hour), true, uint8(3))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), int64(1), uint8(2), int64(math.MinInt64), true, true, int64(-1), false, uint8(0))
	f.Fuzz(func(t *testing.T, lifetime, older, minIdle int64, expiry uint8, ttl int64, protected, idleKnown bool, idle int64, evict bool, level uint8) {
		r := Rule{
			Lifetime: time.Duration(lifetime), EvictNoTTL: evict, MinIdle: time.Duration(minIdle),
			OlderThan: map[Level]time.Duration{Force: time.Duration(older)},
		}
		facts := Facts{Expiry: Expiry(expiry), TTL: time.Duration(ttl), Protected: protected, IdleKnown: idleKnown, Idle: time.Duration(idle)}
		v := r.Judge(Level(level), facts)
		if v.Eligible != (v.Reason == ReasonNone) {
			t.Fatalf("%+v: eligible and a reason, or neither", v)
		}
		if v.AgeKnown && (v.Age < 0 || v.Age > r.Lifetime) {
			t.Fatalf("age %v of a lifetime %v", v.Age, r.Lifetime)
		}
		if !v.Eligible {
			return
		}
		switch {
		case protected, Level(level) != Force, lifetime <= 0, older < 0, older > lifetime:
			t.Fatalf("%+v may go under %+v", facts, r)
		case facts.Expiry == Persistent && !evict, facts.Expiry != Persistent && facts.Expiry != Expiring:
			t.Fatalf("%+v may go under %+v", facts, r)
		case facts.Expiry == Expiring && (ttl < 0 || ttl > lifetime || !v.AgeKnown || v.Age < time.Duration(older)):
			t.Fatalf("%+v may go under %+v", facts, r)
		case minIdle > 0 && (!idleKnown || idle < minIdle):
			t.Fatalf("%+v may go under %+v", facts, r)
		}
	})
}

func TestACutTakesWhatLiesBelowItsWaterline(t *testing.T) {
	persistent := Facts{Expiry: Persistent}
	for name, tt := range map[string]struct {
		cut     Cut
		facts   Facts
		elapsed time.Duration
		want    bool
	}{
		"all, with TTL":                   {TakeAll(), expiring(math.MaxInt64), hour, true},
		"all, no TTL":                     {TakeAll(), persistent, hour, true},
		"all, unknown":                    {TakeAll(), Facts{}, 0, false},
		"all, missing":                    {TakeAll(), Facts{Expiry: Missing}, 0, false},
		"none, with TTL":                  {TakeNone(), expiring(0), 0, false},
		"none, no TTL":                    {TakeNone(), persistent, 0, false},
		"none wins over all":              {Cut{None: true, All: true}, expiring(0), 0, false},
		"only those without, with TTL":    {Cut{None: true, Persistent: true}, expiring(0), 0, false},
		"only those without, no TTL":      {Cut{None: true, Persistent: true}, persistent, 0, true},
		"at the waterline":                {Cut{TTL: hour}, expiring(hour), 0, true},
		"above it":                        {Cut{TTL: hour}, expiring(hour + 1), 0, false},
		"it sinks with time":              {Cut{TTL: hour}, expiring(50 * time.Minute), 10 * time.Minute, true},
		"written since, as seen at zero":  {Cut{TTL: hour}, expiring(50*time.Minute + 1), 10 * time.Minute, false},
		"no overflow":                     {Cut{TTL: hour}, expiring(math.MaxInt64), math.MaxInt64, false},
		"a clock that ran back":           {Cut{TTL: hour}, expiring(hour + 1), -hour, false},
		"nothing with a TTL at the floor": {Cut{TTL: -1}, expiring(0), 0, false},
	} {
		if got := tt.cut.Takes(tt.facts, tt.elapsed); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
