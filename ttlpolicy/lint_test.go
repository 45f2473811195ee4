package ttlpolicy

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// seen is an exact census of one family with these remaining TTLs.
func seen(r Rule, ttls ...time.Duration) *Census {
	c := exactCensus(r)
	for _, ttl := range ttls {
		c.look(0, expiring(ttl), 100, 0)
	}
	return c
}

// spread is n TTLs evenly over (from, to].
func spread(n int, from, to time.Duration) []time.Duration {
	ttls := make([]time.Duration, n)
	for i := range ttls {
		ttls[i] = from + (to-from)*time.Duration(i+1)/time.Duration(n)
	}
	return ttls
}

func older(lifetime, age time.Duration) Rule {
	return Rule{Family: "cache", Lifetime: lifetime, OlderThan: map[Level]time.Duration{Force: age}}
}

func TestLintsSayWhatWasSeenAndWhatToWrite(t *testing.T) {
	for name, tt := range map[string]struct {
		census *Census
		want   map[string][]string // code → what the message holds
	}{
		// The notes' rule: 0 < TTL < 3600 of a lifetime of 3600 s.
		"a rule for everything": {seen(older(hour, time.Second), spread(90, 0, hour)...), map[string][]string{
			"rule_matches_almost_all": {"family cache", "older_than 1s at force", "89 of the 90", "older_than: {force: 40m}"},
		}},
		"nine of ten keys": {seen(older(hour, 6*time.Minute), spread(10, 0, hour)...), map[string][]string{
			"rule_matches_almost_all": {"9 of the 10", "{force: 35m}"},
		}},
		"fewer than nine of ten": {seen(older(hour, 6*time.Minute+1), spread(10, 0, hour)...), nil},
		"too few keys to tell":   {seen(older(hour, time.Second), spread(9, 0, 50*time.Minute)...), nil},
		"any age on purpose":     {seen(older(hour, 0), spread(90, 0, hour)...), nil},
		"a level left out": {seen(Rule{Family: "cache", Lifetime: hour, OlderThan: map[Level]time.Duration{Critical: time.Second}},
			spread(90, 0, hour)...), nil},
		"all of one age": {seen(older(hour, time.Minute), spread(15, hour/2-1000, hour/2)...), map[string][]string{
			"rule_matches_almost_all": {"15 of the 15", "{force: 30m}"},
		}},
		"all as old as the rule says": {seen(older(hour, hour/2), spread(15, hour/2-1000, hour/2)...), map[string][]string{
			"rule_matches_almost_all": {"no greater age", "lifetime 1h"},
		}},
		"a lifetime twice too long": {seen(older(2*hour, 90*time.Minute), spread(120, 0, hour)...), map[string][]string{
			"lifetime_over_observed": {"of 120 keys", "lifetime: 2h", "lifetime: 1h)", "nothing was written lately"},
		}},
		"observed to just under nine tenths": {seen(older(hour, hour/2), spread(75, 0, 54*time.Minute-time.Second)...), map[string][]string{
			"lifetime_over_observed": {"53m59s left", "the keys suggest lifetime: 55m"},
		}},
		"observed to nine tenths":     {seen(older(hour, hour/2), spread(75, 0, 54*time.Minute)...), nil},
		"too few keys to observe":     {seen(older(2*hour, 90*time.Minute), spread(74, 0, hour)...), nil},
		"one of 200 above the others": {seen(older(2*hour, 90*time.Minute), append(spread(199, 0, hour), 2*hour)...), map[string][]string{"lifetime_over_observed": {"suggest lifetime: 1h)"}}},
		"all above the lifetime": {seen(older(hour, hour/2), spread(30, hour, 2*hour)...), map[string][]string{
			"ttl_over_lifetime": {"30 of the 30", "lifetime: 1h,", "up to 2h", "write lifetime: 2h"},
		}},
		"some above the lifetime": {seen(older(hour, hour/2), append(spread(30, 0, hour), 119*time.Minute+1)...), map[string][]string{
			"ttl_over_lifetime": {"1 of the 31", "up to 1h59m,", "write lifetime: 2h", "family of their own"},
		}},
		"as long as PTTL can say": {seen(older(hour, hour/2), math.MaxInt64), map[string][]string{
			"ttl_over_lifetime": {"1 of the 1"},
		}},
		"a short lifetime": {seen(older(500*time.Millisecond, 400*time.Millisecond), spread(75, 0, 100*time.Millisecond)...), map[string][]string{
			"lifetime_over_observed":  {"lifetime: 500ms", "suggest lifetime: 100ms"},
			"rule_matches_almost_all": {"older_than 400ms", "{force: 467ms}"},
		}},
	} {
		got := map[string]string{}
		for _, l := range tt.census.Lints() {
			got[l.Code] = l.Message
			if l.Family != "cache" {
				t.Errorf("%s: %+v", name, l)
			}
		}
		for code, parts := range tt.want {
			for _, part := range parts {
				if !strings.Contains(got[code], part) {
					t.Errorf("%s: %s says %q, not %q", name, code, got[code], part)
				}
			}
			delete(got, code)
		}
		for code, message := range got {
			t.Errorf("%s: %s says %q", name, code, message)
		}
	}
}

func TestLintsAreSilentOnASanePolicy(t *testing.T) {
	ml := Rule{Family: "ml-results", Lifetime: 2 * hour, EvictNoTTL: true, OlderThan: map[Level]time.Duration{Cleanup: 0, Force: 0, Critical: 0}}
	sessions := Rule{Family: "sessions", Lifetime: 30 * time.Minute, OlderThan: map[Level]time.Duration{Force: 25 * time.Minute, Critical: 20 * time.Minute}}
	rules := []Rule{ml, appCache(), sessions}
	r := rand.New(rand.NewPCG(8, 8))
	for range 100 {
		for _, level := range Levels() {
			c := NewCensus(level, rules)
			for i, rule := range rules {
				for range 300 {
					c.look(i, expiring(time.Duration(r.Int64N(int64(rule.Lifetime)+1))), 100, time.Second)
				}
				c.look(i, Facts{Expiry: Persistent}, 100, 0)
			}
			c.Population(1_000_000, false)
			if lints := c.Lints(); len(lints) != 0 {
				t.Fatalf("at %v: %+v", level, lints)
			}
		}
	}
}

func TestAFewKeysSpreadEvenlyAreSeldomTakenForAShorterLifetime(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 11))
	const trials = 2000
	for _, n := range []int{2, 20, 74, 75, 99, 100, 101, 150, 199, 200, 201} {
		fired := 0
		for range trials {
			ttls := make([]time.Duration, n)
			for i := range ttls {
				ttls[i] = time.Duration(r.Int64N(int64(hour)))
			}
			fired += len(seen(older(hour, 0), ttls...).Lints())
		}
		if fired > trials/200 {
			t.Errorf("of %d keys, %d of %d times", n, fired, trials)
		}
	}
}

func TestASuggestedAgeHoldsForAboutAThird(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for range 200 {
		lifetime := time.Duration(10+r.IntN(600)) * time.Minute
		rule := older(lifetime, time.Second)
		var ttls []time.Duration
		for range 300 {
			ttls = append(ttls, time.Duration(r.Int64N(int64(lifetime-time.Minute))))
		}
		message := seen(rule, ttls...).Lints()[0].Message
		_, rest, _ := strings.Cut(message, "{force: ")
		text, _, _ := strings.Cut(rest, "}")
		age, err := ParseDuration(text)
		if err != nil {
			t.Fatalf("%q: %v", message, err)
		}
		holds := 0
		for _, ttl := range ttls {
			if lifetime-ttl >= age {
				holds++
			}
		}
		if holds < 100 || holds > 175 {
			t.Fatalf("of %v: %q holds for %d of 300", lifetime, message, holds)
		}
	}
}

func TestOfARareFamilyASampleCallsNoRuleVacuous(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	false10, true100 := 0, 0
	for range 300 {
		// Three quarters of the keys are old enough, as at the critical level of the built-in policy's app-cache.
		for n, alarms := range map[int]*int{10: &false10, 15: &false10, 20: &false10} {
			c := NewCensus(Force, []Rule{older(hour, hour/4)})
			for range n {
				c.look(0, expiring(time.Duration(r.Int64N(int64(hour)))), 100, 0)
			}
			c.Population(1_000_000, false)
			if _, ok := lintCodes(c)["rule_matches_almost_all"]; ok {
				*alarms++
			}
		}
		c := NewCensus(Force, []Rule{older(hour, time.Second)})
		for range 100 {
			c.look(0, expiring(time.Duration(r.Int64N(int64(hour)))), 100, 0)
		}
		c.Population(1_000_000, false)
		if _, ok := lintCodes(c)["rule_matches_almost_all"]; ok {
			true100++
		}
	}
	if false10 > 18 || true100 < 290 {
		t.Errorf("%d of 900 sane samples raised an alarm, and %d of 300 vacuous ones", false10, true100)
	}
}

func lintCodes(c *Census) map[string]string {
	codes := map[string]string{}
	for _, l := range c.Lints() {
		codes[l.Code] = l.Message
	}
	return codes
}
