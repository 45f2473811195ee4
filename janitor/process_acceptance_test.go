package janitor_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
)

func TestAKilledJanitorLeavesTheCooldownAndALeaseThatEndsByItself(t *testing.T) {
	binary := build(t)
	inEveryPressure(t, nothingMore, func(t *testing.T, s *redistest.Server, c *redis.Client) {
		all := dbSize(t, c)
		p := start(t, binary, s.Addr, t.TempDir(), "--max-rate", "100")
		awaitTrue(t, "the first keys to go", func() bool { return countKeys(t, c, "[^r]*") < all })
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.Wait() // killed
		if ttl := c.PTTL(t.Context(), cooldownKey).Val(); ttl <= 0 || ttl > 2*time.Minute {
			t.Errorf("the cooldown lasts for %s", ttl)
		}
		if ttl := c.PTTL(t.Context(), leaseKey).Val(); ttl <= 0 || ttl > 20*time.Second {
			t.Errorf("the lease lasts for %s", ttl)
		}
		gone := all - countKeys(t, c, "[^r]*")
		expect(t, clean(t, s, atCleanup, noTarget), janitor.Skipped, janitor.Cooldown, 0)
		expect(t, clean(t, s, atCleanup, noTarget, ignoreCooldown), janitor.Skipped, janitor.LeaseHeld, 0)
		do(t, c, []any{"DEL", leaseKey}) // in the place of waiting
		r := clean(t, s, atCleanup, noTarget, ignoreCooldown)
		expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
		if gone+r.Totals.Evicted != eligibleAtCleanup {
			t.Errorf("%d keys went before the end and %d after it, want %d in all", gone, r.Totals.Evicted, eligibleAtCleanup)
		}
	})
}

func TestOfTenProcessesAtOnceOneEvictsAndNineLeaveWithExitCode0(t *testing.T) {
	binary := build(t)
	inEveryPressure(t, nothingMore, func(t *testing.T, s *redistest.Server, c *redis.Client) {
		processes := make([]*process, 10)
		for i := range processes {
			// Each on a host of its own, so that it is the lease in Redis that keeps them apart.
			processes[i] = start(t, binary, s.Addr, t.TempDir(), "--max-rate", "1500")
		}
		reasons := map[janitor.Reason]int{}
		for _, p := range processes {
			r := p.end(t)
			reasons[r.Reason]++
			switch r.Reason {
			case janitor.Exhausted:
				expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
				if r.Totals.Evicted != eligibleAtCleanup {
					t.Errorf("%d keys were evicted", r.Totals.Evicted)
				}
			case janitor.LeaseHeld, janitor.Cooldown:
				expect(t, r, janitor.Skipped, r.Reason, 0)
			default:
				t.Errorf("one ended as %s, %s: %s", r.Outcome, r.Reason, r.Message)
			}
		}
		if reasons[janitor.Exhausted] != 1 {
			t.Errorf("they ended as %v", reasons)
		}
		if n := dbSize(t, c); n != remainder+1 {
			t.Errorf("%d keys are left", n)
		}
		expectOwnKeys(t, s)
	})
}

func TestASecondSignalEndsTheProcessAtOnce(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	p := start(t, build(t), s.Addr, t.TempDir(), "--max-rate", "100")
	awaitTrue(t, "the lease", func() bool { return keyExists(t, c, leaseKey) })
	s.Pause() // so that neither the batch in hand nor the giving back of the lease can end
	defer s.Resume()
	done := make(chan error, 1)
	go func() { done <- p.Wait() }()
	awaitTrue(t, "the end", func() bool {
		select {
		case <-done:
			return true
		default:
			_ = p.Process.Signal(syscall.SIGTERM) // it may have ended just now
			return false
		}
	})
	if state := p.ProcessState.Sys().(syscall.WaitStatus); !state.Signaled() || state.Signal() != syscall.SIGTERM {
		t.Errorf("it ended as %v", p.ProcessState)
	}
}
