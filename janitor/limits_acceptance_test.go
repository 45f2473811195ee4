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
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

var atCleanup = atLevel(ttlpolicy.Cleanup)

func TestMaxKeysIsExact(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	do(t, c, []any{"SET", cooldownKey, "somebody", "PX", 60_000})
	for _, n := range []int64{1, 2, 777, 1000} {
		for _, target := range []func(*janitor.Request){noTarget, func(r *janitor.Request) { r.Policy.Memory.Target = janitor.Target{Bytes: 1 << 20} }} {
			before := dbSize(t, c)
			if before < eligibleAtCleanup/2 {
				plantSome(t, c)
				before = dbSize(t, c)
			}
			r := clean(t, s, atCleanup, target, calm, maxKeys(n), func(r *janitor.Request) { r.Connection.Workers = 4 })
			expect(t, r, janitor.Incomplete, janitor.MaxKeys, 3)
			if gone := before - dbSize(t, c); gone != n || r.Totals.Evicted != n {
				t.Errorf("--max-keys %d: %d keys went and %d were counted", n, gone, r.Totals.Evicted)
			}
		}
	}
	expect(t, clean(t, s, atCleanup, noTarget, calm, maxKeys(100_000)), janitor.Evicted, janitor.Exhausted, 0)
	if n := dbSize(t, c); n != remainder+1 {
		t.Errorf("%d keys are left", n)
	}
}

func TestMaxBytesBoundsWhatIsFreed(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plant(t, c, func(p *planter) {
		for i := range 5000 {
			p.do("SET", "ml_results:"+strconv.Itoa(i), strings.Repeat("x", 1000), "EX", 3600)
		}
	})
	const limit = 2 << 20
	before := usedMemory(t, c)
	r := clean(t, s, atCleanup, noTarget, func(r *janitor.Request) { r.MaxBytes = limit })
	expect(t, r, janitor.Incomplete, janitor.MaxBytes, 3)
	if r.Totals.FreedBytes > limit || r.Totals.FreedBytes < limit*9/10 {
		t.Errorf("about %d bytes were freed, of %d allowed", r.Totals.FreedBytes, limit)
	}
	// Connections and scripts, which came with the run, take some.
	if freed := before - usedMemory(t, c); freed > limit*11/10 || freed < limit*7/10 {
		t.Errorf("memory fell by %d, of %d allowed", freed, limit)
	}
}

func TestMaxBytesCountsWhatMayBeGone(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plant(t, c, func(p *planter) {
		for i := range 5000 {
			p.do("SET", "ml_results:"+strconv.Itoa(i), strings.Repeat("x", 1000), "EX", 3600)
		}
	})
	each := c.MemoryUsage(t.Context(), "ml_results:0").Val()
	p := redistest.Proxy(t, s.Addr)
	batches := 0
	// Not two in a row: the run goes on after each lost reply.
	onEviction(p, func([]string) {
		if batches++; batches%2 == 0 {
			p.DropReplyTo(func(cmd []string) bool { return evictionKeys(cmd) != nil })
		}
	})
	const limit = 1 << 20
	r := clean(t, s, atCleanup, noTarget, through(p), func(r *janitor.Request) { r.MaxBytes = limit })
	expect(t, r, janitor.Incomplete, janitor.MaxBytes, 3)
	gone := 5000 - countKeys(t, c, "ml_results:*")
	if r.Totals.Uncertain < 50 || r.Totals.Evicted+r.Totals.Uncertain < gone || each == 0 {
		t.Fatalf("%d keys of %d bytes are gone; the report says %+v", gone, each, r.Totals)
	}
	if bytes := gone * each; bytes > limit*11/10 || bytes < limit/2 {
		t.Errorf("%d bytes are gone, of %d allowed; the report says %+v", bytes, limit, r.Totals)
	}
}

func TestPlanAndDryRunAreEndedByASignalToo(t *testing.T) {
	s := redistest.Start(t)
	plantAll(t, s.Client(), 5)
	for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun} {
		for _, after := range []time.Duration{1, time.Millisecond, 5 * time.Millisecond} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(after, func() { cancel(&janitor.Signal{Name: "SIGINT", Exit: 130}) })
			r := cleanOn(ctx, t, t.TempDir(), s, command(cmd), atCleanup, noTarget)
			expect(t, r, janitor.Incomplete, janitor.Interrupted, 130)
		}
	}
}

func TestMaxRateIsNotExceeded(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	r := clean(t, s, atCleanup, noTarget, func(r *janitor.Request) { r.MaxRate, r.Connection.Workers = 4000, 4 })
	expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
	// A tenth of a second's worth may go at once. A slow machine only takes longer.
	if least := int64(1000 * (eligibleAtCleanup - 400) / 4000); r.DurationMS < least {
		t.Errorf("%d keys went within %d ms, which takes %d at least", eligibleAtCleanup, r.DurationMS, least)
	}
}

func TestWithMemoryBelowTheTargetALevelFindsNothingToDo(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	all := dbSize(t, c)
	below := atRatio(t, c, 0.4)
	expect(t, clean(t, s, below, atCleanup), janitor.Nothing, janitor.TargetReached, 0)
	if n := dbSize(t, c); n != all {
		t.Fatalf("%d keys went", all-n)
	}
	for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun} {
		r := clean(t, s, command(cmd), below, atCleanup)
		if r.ExitCode != 0 || r.Outcome != janitor.Planned && r.Outcome != janitor.Nothing {
			t.Errorf("%s ended as %s, exit %d", cmd, r.Outcome, r.ExitCode)
		}
		expectWarning(t, r, "below_target")
		if r.Nodes[0].Families[0].Estimate.Eligible == 0 {
			t.Errorf("%s did not look: %+v", cmd, r.Nodes[0].Families)
		}
	}
	lower := func(r *janitor.Request) { r.Policy.Memory.Target = janitor.Target{Share: 0.39} }
	expect(t, clean(t, s, below, atCleanup, lower), janitor.Evicted, janitor.TargetReached, 0)
	expect(t, clean(t, s, below, atCleanup, noTarget, ignoreCooldown), janitor.Evicted, janitor.Exhausted, 0)
}

// stuffed is a server of about 20 MB, a share of which may go.
func stuffed(t *testing.T, share float64) (*redistest.Server, *redis.Client) {
	t.Helper()
	s := redistest.Start(t)
	c := s.Client()
	plant(t, c, func(p *planter) {
		for i := range int(2000 * share) {
			p.do("SET", "ml_results:"+strconv.Itoa(i), strings.Repeat("x", 10_000), "EX", 3600)
		}
	})
	do(t, c, []any{"SETRANGE", "ballast", int((1 - share) * 20e6), "x"})
	return s, c
}

func TestExhaustedIsDoneBelowTheStartingLevelsThresholdAndIncompleteAbove(t *testing.T) {
	for _, test := range []struct {
		share, ratio float64
		target       func(*janitor.Request)
		outcome      janitor.Outcome
		exit         int
	}{
		{0.12, 0.80, nil, janitor.Evicted, 0},      // 70 %: below force, though not at the target
		{0.02, 0.80, nil, janitor.Incomplete, 3},   // 78 %: still force
		{0.02, 0.80, noTarget, janitor.Evicted, 0}, // all that is eligible was wanted, and it went
		{0.02, 0.65, nil, janitor.Incomplete, 3},   // 64 %: still cleanup
		{0.15, 0.90, nil, janitor.Evicted, 0},      // 76 %: critical no more
		{0, 0.80, nil, janitor.Incomplete, 3},      // nothing is eligible
		{0, 0.80, noTarget, janitor.Nothing, 0},    // the same, and that was all that was wanted
	} {
		t.Run(fmt.Sprintf("%g of it may go at a ratio of %g", test.share, test.ratio), func(t *testing.T) {
			s, c := stuffed(t, test.share)
			changes := []func(*janitor.Request){atRatio(t, c, test.ratio), calm}
			if test.target != nil {
				changes = append(changes, test.target)
			}
			for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun} {
				r := clean(t, s, append(changes, command(cmd))...)
				if want := map[bool]janitor.Outcome{true: janitor.Planned, false: janitor.Nothing}[test.share > 0]; r.Outcome != want || r.ExitCode != 0 {
					t.Errorf("%s ended as %s, exit %d, want %s, exit 0", cmd, r.Outcome, r.ExitCode, want)
				}
				if test.target == nil {
					expectWarning(t, r, "target_unreachable")
				}
				// A limit hides it no more than the limit's end does.
				for _, limit := range []func(*janitor.Request){maxKeys(3), func(r *janitor.Request) { r.MaxBytes = 30_000 }} {
					limited := clean(t, s, append(changes, command(cmd), limit)...)
					if missing := limited.Nodes[0].Memory.MissingBytes; hasWarning(limited, "target_unreachable") != (test.target == nil) || (missing > 0) != (test.target == nil) {
						t.Errorf("%s with a limit misses %d bytes: %+v", cmd, missing, limited.Warnings)
					}
				}
			}
			r := clean(t, s, changes...)
			expect(t, r, test.outcome, janitor.Exhausted, test.exit)
			if n := countKeys(t, c, "ml_results:*"); n != 0 {
				t.Errorf("%d eligible keys are left", n)
			}
		})
	}
}

func TestTheDetailedExitCodeTellsWhetherThereIsSomethingToEvict(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	detailed := func(r *janitor.Request) { r.DetailedExit = true }
	for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun} {
		expect(t, clean(t, s, command(cmd), detailed, atRatio(t, c, 0.5)), janitor.Nothing, janitor.BelowThreshold, 0)
		expect(t, clean(t, s, command(cmd), detailed, atCleanup, noTarget, activeUsers(100), failIfSkipped), janitor.Planned, janitor.Exhausted, 10)
		r := clean(t, s, command(cmd), detailed, atCleanup, noTarget, inDB(s, 1))
		expect(t, r, janitor.Nothing, janitor.Exhausted, 0)
	}
}
