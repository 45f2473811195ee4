package janitor_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// TestTheProgram runs the program as it is shipped, but for the race detector where the tests have it.
func TestTheProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "redis-janitor")
	arguments := []string{"build", "-o", path}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		arguments = append(arguments, "-race")
	}
	if out, err := exec.Command("go", append(arguments, "redis-janitor")...).CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	b := binary(path)
	t.Run("killed, it leaves the cooldown and a lease that ends by itself", b.testKilled)
	t.Run("of ten at once one evicts and nine leave with exit code 0", b.testTenAtOnce)
	t.Run("a signal lets the batch in hand end and the report be printed", b.testSignals)
	t.Run("a second signal ends it at once", b.testSecondSignal)
}

// binary is the program's path.
type binary string

// process is a janitor at work.
type process struct {
	t           *testing.T
	cmd         *exec.Cmd
	out, errors bytes.Buffer
}

// start starts an execute with -o json on a host of its own.
func (b binary) start(t *testing.T, s *redistest.Server, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(string(b), append([]string{"execute", "--yes", "-o", "json", "-u", s.URL()}, args...)...)}
	p.cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errors
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended, unless the test has failed
		_ = p.cmd.Wait()
	})
	return p
}

// ended waits for the end and returns the report: the one document on stdout.
func (p *process) ended() *janitor.Report {
	p.t.Helper()
	var ended *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &ended) {
		p.t.Fatal(err)
	}
	r := new(janitor.Report)
	decoder := json.NewDecoder(&p.out)
	if err := decoder.Decode(r); err != nil {
		p.t.Fatalf("stdout is no report: %v; stderr:\n%s", err, &p.errors)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		p.t.Error("something follows the report")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != r.ExitCode {
		p.t.Errorf("the exit code is %d, the report says %d; stderr:\n%s", code, r.ExitCode, &p.errors)
	}
	return r
}

// evictAll are the flags of a run that takes all that is eligible at level cleanup, whatever the memory.
var evictAll = []string{"--level", "cleanup", "--target", "none"}

func (b binary) testKilled(t *testing.T) {
	inEveryPressure(t, nothingMore, func(t *testing.T, s *redistest.Server, c *redis.Client) {
		do(t, c, []any{"DEL", "ballast"}) // which takes long to compare
		before := redistest.Snapshot(t.Context(), c)
		started := time.Now()
		p := b.start(t, s, append(evictAll, "--max-rate", "100")...)
		awaitTrue(t, "the first keys to go", func() bool { return countKeys(t, c, "[^r]*") < int64(len(before)) })
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait() // killed
		if ttl := c.PTTL(t.Context(), cooldownKey).Val(); ttl <= 0 || ttl > 2*time.Minute {
			t.Errorf("the cooldown lasts for %s", ttl)
		}
		if ttl := c.PTTL(t.Context(), leaseKey).Val(); ttl <= 0 || ttl > 20*time.Second {
			t.Errorf("the lease lasts for %s", ttl)
		}
		left := remaining(t, c, before)
		for name, key := range before {
			if _, there := left[name]; !there && fateOf(name, key, ttlpolicy.Cleanup, started, time.Now()) != goes {
				t.Errorf("%q is gone", name)
			}
		}
		expect(t, clean(t, s, atCleanup, noTarget), janitor.Skipped, janitor.Cooldown, 0)
		expect(t, clean(t, s, atCleanup, noTarget, ignoreCooldown), janitor.Skipped, janitor.LeaseHeld, 0)
		do(t, c, []any{"DEL", leaseKey}) // in the place of waiting
		r := clean(t, s, atCleanup, noTarget, ignoreCooldown)
		expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
		if gone := int64(len(before) - len(left)); gone == 0 || gone+r.Totals.Evicted != eligibleAtCleanup {
			t.Errorf("%d keys went before the end and %d after it, want %d in all", gone, r.Totals.Evicted, eligibleAtCleanup)
		}
	})
}

func (b binary) testTenAtOnce(t *testing.T) {
	inEveryPressure(t, nothingMore, func(t *testing.T, s *redistest.Server, c *redis.Client) {
		processes := make([]*process, 10)
		for i := range processes {
			processes[i] = b.start(t, s, append(evictAll, "--max-rate", "1500")...)
		}
		reasons := map[janitor.Reason]int{}
		for _, p := range processes {
			r := p.ended()
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

func (b binary) testSignals(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		t.Run(sig.String(), func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			plantSome(t, c)
			do(t, c, []any{"DEL", "ballast"}) // which takes long to compare
			before := redistest.Snapshot(t.Context(), c)
			p := b.start(t, s, append(evictAll, "--max-rate", "300")...)
			awaitTrue(t, "the first keys to go", func() bool { return countKeys(t, c, "[^r]*") < int64(len(before)) })
			if err := p.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			r := p.ended()
			expect(t, r, janitor.Incomplete, janitor.Interrupted, code)
			left := redistest.Snapshot(t.Context(), c)
			if keyExists(t, c, leaseKey) {
				t.Error("the lease is still there")
			}
			delete(left, cooldownKey)
			if gone := int64(len(before) - len(left)); gone != r.Totals.Evicted || gone == 0 || gone == eligibleAtCleanup {
				t.Errorf("%d keys went and %d were counted", gone, r.Totals.Evicted)
			}
			maps.DeleteFunc(before, func(name string, _ redistest.Key) bool { _, there := left[name]; return !there })
			if !maps.Equal(before, left) {
				t.Error("what stayed is not what it was")
			}
		})
	}
}

func (b binary) testSecondSignal(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	p := b.start(t, s, append(evictAll, "--max-rate", "100")...)
	awaitTrue(t, "the lease", func() bool { return keyExists(t, c, leaseKey) })
	s.Pause() // so that the batch in hand, or the giving back of the lease, cannot end
	defer s.Resume()
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	signals := 0
	awaitTrue(t, "the end", func() bool {
		select {
		case <-done:
			return true
		default:
			signals++
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
			return false
		}
	})
	state := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !state.Signaled() || state.Signal() != syscall.SIGTERM {
		t.Errorf("after %s signals it ended as %v", strconv.Itoa(signals), p.cmd.ProcessState)
	}
}
