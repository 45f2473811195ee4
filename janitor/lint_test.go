package janitor_test

import (
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// lintCodes are the warnings of rules that the keys do not bear out.
var lintCodes = []string{"rule_matches_almost_all", "lifetime_over_observed", "ttl_over_lifetime"}

// lintsOf are a run's lints by code, each of which must be of one family.
func lintsOf(t *testing.T, r *janitor.Report, family string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, w := range r.Warnings {
		for _, code := range lintCodes {
			if w.Code == code {
				found[code] = w.Message
				if w.Family != family {
					t.Errorf("of family %q: %+v", w.Family, w)
				}
			}
		}
	}
	return found
}

func TestARuleThatTheKeysDoNotBearOutIsCalledOutWithWhatToWriteInstead(t *testing.T) {
	for _, tt := range []struct {
		name     string
		lifetime time.Duration
		age      time.Duration // older_than at force
		from, to time.Duration // the TTLs there are
		want     map[string][]string
	}{
		{"the notes' rule: 0 < TTL < 3600 of a lifetime of 3600 s", time.Hour, time.Second, 7 * time.Minute, time.Hour, map[string][]string{
			"rule_matches_almost_all": {"older_than 1s at force", "write older_than: {force: 3", "0s if all of them may go"},
		}},
		{"a lifetime that no writer gives", 2 * time.Hour, 0, 0, time.Hour, map[string][]string{
			"lifetime_over_observed": {"lifetime: 2h", "suggest lifetime: 1h)", "nothing was written lately"},
		}},
		{"a lifetime that makes all keys old", 2 * time.Hour, 30 * time.Minute, 0, time.Hour, map[string][]string{
			"lifetime_over_observed":  {"suggest lifetime: 1h)"},
			"rule_matches_almost_all": {"older_than 30m at force", "write older_than: {force: 1h"},
		}},
		{"writers that give more", time.Hour, 30 * time.Minute, 0, 2 * time.Hour, map[string][]string{
			"ttl_over_lifetime": {"lifetime: 1h", "write lifetime: 2h", "family of their own"},
		}},
		{"a rule that divides", time.Hour, 30 * time.Minute, 0, time.Hour, nil},
		{"a rule for all of them", time.Hour, 0, 0, time.Hour, nil},
	} {
		for name, n := range map[string]int{"counted": 1_000, "sampled": 21_000} {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				s := startLean(t)
				c := s.Client()
				// None expires while the test runs.
				fill(t, s, writeString, evenly("first:", n, tt.from+30*time.Second, tt.to, bytesEach(200)))
				family := first
				family.Rule.Lifetime = tt.lifetime
				family.Rule.OlderThan = map[ttlpolicy.Level]time.Duration{ttlpolicy.Force: tt.age}
				cleaning := cleaning(settledMemory(t, c)*100/80, family)
				for _, looking := range []janitor.Command{janitor.Plan, janitor.DryRun} {
					r := clean(t, s, fast, cleaning, command(looking))
					if r.ExitCode != 0 {
						t.Errorf("a lint has %s end with %d: %s", looking, r.ExitCode, r.Message)
					}
					found := lintsOf(t, r, "first")
					for code, parts := range tt.want {
						for _, part := range parts {
							if !strings.Contains(found[code], part) {
								t.Errorf("%s: %s says %q, not %q", looking, code, found[code], part)
							}
						}
						delete(found, code)
					}
					for code, message := range found {
						t.Errorf("%s: %s says %q", looking, code, message)
					}
				}
			})
		}
	}
}

func TestLintsAreSilentAboutTheBuiltInPolicyOnItsKeys(t *testing.T) {
	for name, n := range map[string]int{"few keys": 700, "counted": 15_000, "sampled": 25_000} {
		t.Run(name, func(t *testing.T) {
			s := startLean(t)
			c := s.Client()
			populate(t, c, n)
			for _, level := range ttlpolicy.Levels() {
				for _, looking := range []janitor.Command{janitor.Plan, janitor.DryRun} {
					r := clean(t, s, fast, atRatio(t, c, 0.95), noTarget, ignoreBusy, atLevel(level), command(looking))
					if found := lintsOf(t, r, ""); len(found) > 0 {
						t.Errorf("%s at %s: %v", looking, level, found)
					}
				}
			}
		})
	}
}
