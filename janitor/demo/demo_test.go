package demo

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// audience takes down all that a story tells.
type audience struct {
	words   strings.Builder
	reports []*janitor.Report
}

func (a *audience) options(t *testing.T) Options {
	t.Helper()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return Options{
		Seed: 1, Version: "test",
		Env: janitor.Env{
			Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler), LockDir: t.TempDir(),
			Name: "test", Random: rand.New(rand.NewPCG(1, 1)),
		},
		Say: func(text string) error {
			a.words.WriteString(text + "\n")
			return nil
		},
		Show: func(title, explanation string, r *janitor.Report) error {
			a.words.WriteString(title + "\n" + explanation + "\n")
			if r != nil {
				a.reports = append(a.reports, r)
			}
			return nil
		},
	}
}

func TestTheStoryIsToldToItsEnd(t *testing.T) {
	var a audience
	if err := Run(t.Context(), a.options(t)); err != nil {
		t.Fatal(err)
	}
	want := []struct {
		command string
		level   ttlpolicy.Level
		outcome janitor.Outcome
		reason  janitor.Reason
	}{
		{"plan", ttlpolicy.OK, janitor.Nothing, janitor.BelowThreshold},
		{"plan", ttlpolicy.Cleanup, janitor.Planned, janitor.TargetReached},
		{"execute", ttlpolicy.Cleanup, janitor.Evicted, janitor.TargetReached},
		{"execute", ttlpolicy.Force, janitor.Skipped, janitor.Busy},
		{"dry-run", ttlpolicy.Critical, janitor.Planned, janitor.TargetReached},
		{"execute", ttlpolicy.Critical, janitor.Evicted, janitor.TargetReached},
	}
	if len(a.reports) != len(want) {
		t.Fatalf("%d reports were shown, want %d", len(a.reports), len(want))
	}
	for i, w := range want {
		r := a.reports[i]
		if r.Command != w.command || r.Level != w.level || r.Outcome != w.outcome || r.Reason != w.reason {
			t.Errorf("report %d: %s at %s: %s (%s), want %+v", i, r.Command, r.Level, r.Outcome, r.Reason, w)
		}
		if r.Nodes[0].Sampled || r.Nodes[0].Keys > 2000 {
			t.Errorf("report %d is of %d keys: too many for all of them to be counted", i, r.Nodes[0].Keys)
		}
		if !strings.Contains(r.Nodes[0].Server, "embedded") {
			t.Errorf("report %d calls the server %q", i, r.Nodes[0].Server)
		}
	}
	for i, active := range []int64{1: 14, 2: 14, 3: people, 4: people, 5: people} {
		if users := a.reports[i].Users; users.Active != active || users.Busy != (active > users.Over) {
			t.Errorf("report %d tells of %d active users (busy: %t), want %d", i, users.Active, users.Busy, active)
		}
	}
	for _, i := range []int{2, 5} {
		families := a.reports[i].Nodes[0].Families
		for later := 1; later < len(families); later++ {
			if before := families[later-1]; families[later].Evicted > 0 && before.Kept.AboveWaterline > 0 {
				t.Errorf("report %d: %s goes while %d keys of %s that may go stay", i, families[later].Name, before.Kept.AboveWaterline, before.Name)
			}
		}
	}
	if began := a.reports[0].StartedAt; a.reports[3].StartedAt.Sub(began) != 3*time.Minute {
		t.Errorf("the janitor's clock did not move with the story's: %s, %s", began, a.reports[3].StartedAt)
	}
	youngest := regexp.MustCompile(`youngest that went was (\S+) old`).FindStringSubmatch(a.words.String())
	if len(youngest) != 2 {
		t.Fatalf("the story does not say which sessions went:\n%s", &a.words)
	}
	if age, err := time.ParseDuration(youngest[1]); err != nil || age < 20*time.Minute || age > 30*time.Minute {
		t.Errorf("a session of age %s went: %v", youngest[1], err)
	}
	for _, part := range []string{"embedded Redis (miniredis)", "No other Redis is touched", "redis://127.0.0.1:", "skipped (cooldown)",
		"54 keys of Celery's queue", "no FLUSHDB"} {
		if !strings.Contains(a.words.String(), part) {
			t.Errorf("the story does not say %q:\n%s", part, &a.words)
		}
	}
}

// TestTheStoryHoldsForOtherKeysToo guards against words that are only true of one seed.
func TestTheStoryHoldsForOtherKeysToo(t *testing.T) {
	for seed := range uint64(2) {
		var a audience
		o := a.options(t)
		o.Seed = 100 + seed
		if err := Run(t.Context(), o); err != nil {
			t.Errorf("seed %d: %v", o.Seed, err)
			continue
		}
		for _, f := range a.reports[5].Nodes[0].Families {
			if f.Evicted == 0 {
				t.Errorf("seed %d: nothing of %s was evicted at the critical level", o.Seed, f.Name)
			}
		}
	}
}

func TestTheSameSeedFillsInTheSameKeys(t *testing.T) {
	first, second := told(t), told(t)
	if a, b := stored(t, first), stored(t, second); !maps.Equal(a, b) {
		t.Error("two stories with one seed differ")
	}
}

// TestWithoutATargetExactlyTheKeysThatMayGoAreGone judges by the story's own reading of the policy.
func TestWithoutATargetExactlyTheKeysThatMayGoAreGone(t *testing.T) {
	for _, level := range ttlpolicy.Levels() {
		t.Run(level.String(), func(t *testing.T) {
			s := told(t)
			want := stored(t, s)
			before, err := s.server.Entries()
			if err != nil {
				t.Fatal(err)
			}
			allowed := int64(0)
			for key, e := range before {
				if s.mayGo(s.keys.kinds[key], e.TTL, level) {
					delete(want, key)
					allowed++
				}
			}
			s.policy.Memory.Target = janitor.Target{None: true}
			env := s.Env
			env.Now = s.server.Now
			r := janitor.Run(t.Context(), janitor.Request{
				Command: janitor.Execute, Policy: s.policy, Level: level, ActiveUsers: 0, Confirmed: true, Pace: "auto",
				Connection: keyspace.Options{URLs: []string{s.server.URL()}, ConnectTimeout: time.Second, CommandTimeout: time.Minute, Workers: 2},
			}, env)
			if r.ExitCode != janitor.ExitDone || r.Totals.Evicted != allowed {
				t.Errorf("evicted %d keys, want %d: %s", r.Totals.Evicted, allowed, r.Message)
			}
			got := stored(t, s)
			delete(got, keyspace.CooldownKey)
			if !maps.Equal(got, want) {
				t.Errorf("%d keys are left, and not the %d that were to stay", len(got), len(want))
			}
		})
	}
}

// TestTheMemoryToldIsTheMemoryFreed compares what the janitor estimates with what the server lost.
func TestTheMemoryToldIsTheMemoryFreed(t *testing.T) {
	var a audience
	if err := Run(t.Context(), a.options(t)); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{2, 5} {
		m := a.reports[i].Nodes[0].Memory
		lost, told := float64(m.UsedBytes-m.AfterBytes), float64(a.reports[i].Totals.FreedBytes)
		if told < 0.9*lost || told > 1.1*lost {
			t.Errorf("the server uses %.0f bytes less, and the janitor says %.0f", lost, told)
		}
		if m.AfterBytes > m.TargetBytes {
			t.Errorf("memory is at %d, above the target of %d", m.AfterBytes, m.TargetBytes)
		}
	}
}

func TestTheDemoFailsWhereAKeyIsGoneThatWasToStay(t *testing.T) {
	for _, tt := range []struct {
		name string
		harm func(s *story)
		want string
	}{
		{"a queue", func(s *story) { s.server.Miniredis().Del("celery") }, "misses key \"celery\""},
		{"a changed profile", func(s *story) { s.server.Miniredis().HSet("user:7:profile", "name", "nobody") }, "changed after"},
		{"a shorter TTL", func(s *story) { s.server.Miniredis().SetTTL("ratelimit:user:3", time.Second) }, "changed after"},
		{"a result that may go, but not by a plan", func(s *story) {
			for key, k := range s.keys.kinds {
				if k == results {
					s.server.Miniredis().Del(key)
					return
				}
			}
		}, "misses key \"ml_results:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := told(t)
			if err := s.fill(4.95, s.keys.freshResult); err != nil {
				t.Fatal(err)
			}
			harmed := false
			s.Env.Progress = func(janitor.Progress) {
				if !harmed {
					tt.harm(s)
				}
				harmed = true
			}
			_, err := s.run(t.Context(), janitor.Plan, janitor.TargetReached)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestAnotherEndingThanTheToldOneIsAnError(t *testing.T) {
	s := told(t)
	if _, err := s.run(t.Context(), janitor.Plan, janitor.TargetReached); err == nil || !strings.Contains(err.Error(), "below_threshold") {
		t.Errorf("got %v", err)
	}
}

func TestAStoppedDemoSaysWhy(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var a audience
	o := a.options(t)
	show := o.Show
	o.Show = func(title, explanation string, r *janitor.Report) error {
		if len(a.reports) == 1 {
			cancel(&janitor.Signal{Name: "SIGINT", Exit: janitor.ExitInterrupt})
		}
		return show(title, explanation, r)
	}
	var signal *janitor.Signal
	if err := Run(ctx, o); !errors.As(err, &signal) || len(a.reports) != 2 {
		t.Errorf("got %v after %d reports", err, len(a.reports))
	}
	broken := errors.New("broken pipe")
	o.Say = func(string) error { return broken }
	if err := Run(t.Context(), o); !errors.Is(err, broken) {
		t.Errorf("got %v, want what Say returned", err)
	}
}

// told is a story whose first act is over.
func told(t *testing.T) *story {
	t.Helper()
	var a audience
	s, err := open(a.options(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Close)
	if err := s.asItStands(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// stored is what the server holds, with what would change a key beside its value.
func stored(t *testing.T, s *story) map[string]string {
	t.Helper()
	entries, err := s.server.Entries()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string, len(entries))
	for key, e := range entries {
		all[key] = e.Type + " " + e.TTL.String() + " " + e.Value
	}
	return all
}
