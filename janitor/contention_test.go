package janitor_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
)

// withoutOwnKeys are the flags of a user that may evict and write neither lease nor cooldown.
func withoutOwnKeys(t *testing.T, s *redistest.Server) []string {
	t.Helper()
	do(t, s.Client(), []any{"ACL", "SETUSER", "limited", "on", ">pw", "resetkeys", "~combot_cache*", "~ml_results*", "+@all"})
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("pw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--user", "limited", "--password-file", password}
}

func TestOfTenJanitorsOneEvictsAndNineLeave(t *testing.T) {
	binary := build(t)
	for _, it := range []struct {
		name   string
		strain func(t *testing.T, s *redistest.Server) (flags []string)
		hosts  int
		actors int // how many of the ten evict
	}{
		{"on ten hosts", nil, 10, 1},
		{"on ten hosts, with Redis out of memory", func(t *testing.T, s *redistest.Server) []string {
			send("CONFIG", "SET", "maxmemory", "1")(t, s)
			return nil
		}, 10, 1},
		{"on one host, without a lease", withoutOwnKeys, 1, 1},
		// Nobody keeps these apart, and still every key goes once and is counted once.
		{"on ten hosts, without a lease", withoutOwnKeys, 10, 10},
	} {
		t.Run(it.name, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			kept := keepers(t, c)
			loadUp(t, c)
			flags := []string{"--max-rate", "1000"}
			if it.strain != nil {
				flags = append(flags, it.strain(t, s)...)
			}
			hosts := make([]string, it.hosts)
			for i := range hosts {
				hosts[i] = t.TempDir()
			}
			running := make([]*process, 10)
			for i := range running {
				running[i] = start(t, binary, s.Addr, hosts[i%it.hosts], flags...)
			}
			actors, evicted := 0, int64(0)
			for _, p := range running {
				r := p.end(t)
				evicted += r.Totals.Evicted
				switch r.Outcome {
				case janitor.Evicted:
					actors++
				case janitor.Skipped:
					// Who comes late finds the cooldown.
					if r.Reason != janitor.LeaseHeld && r.Reason != janitor.Cooldown {
						t.Errorf("one leaves because of %s (%s)", r.Reason, r.Message)
					}
				}
				if r.ExitCode != janitor.ExitDone {
					t.Errorf("one ends with exit %d: %s", r.ExitCode, r.Message)
				}
			}
			if actors < 1 || actors > it.actors {
				t.Errorf("%d evicted, want %d at most", actors, it.actors)
			}
			if gone := expectKept(t, c, kept); gone != few || evicted != few {
				t.Errorf("of %d keys %d are gone, and the reports come to %d", few, gone, evicted)
			}
			if keyExists(t, c, leaseKey) {
				t.Error("the lease is still there")
			}
		})
	}
}

func TestThisHostsLockIsForEveryUserOfTheHost(t *testing.T) {
	binary := build(t)
	s := redistest.Start(t)
	c := s.Client()
	do(t, c, []any{"ACL", "SETUSER", "limited", "on", ">pw", "~combot_cache*", "~ml_results*", "+@all"})
	shared, err := os.MkdirTemp("", "redis-janitor-host") // t.TempDir's parent is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(shared) })
	if err := os.Chmod(shared, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	run := func(as *syscall.Credential, flags ...string) *process {
		t.Helper()
		loadUp(t, c)
		p := prepare(binary, s.Addr, shared, append([]string{"--user", "limited"}, flags...)...)
		// A shell has the umask: this process has other tests' files to make.
		p.Path, p.Args = "/bin/sh", append([]string{"sh", "-c", `umask 077; exec "$0" "$@"`}, p.Args...)
		p.Env = append(p.Env, "REDISCLI_AUTH=pw")
		p.Stdout, p.Stderr, p.SysProcAttr = &p.stdout, &p.stderr, &syscall.SysProcAttr{Credential: as}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Process.Kill() })
		return p
	}
	users := []*syscall.Credential{nil}
	if os.Getuid() == 0 { // only root may be somebody else
		users = append(users, &syscall.Credential{Uid: 65533, Gid: 65533}, &syscall.Credential{Uid: 65534, Gid: 65534}, nil)
	}
	for _, user := range users {
		expect(t, run(user).end(t), janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	}
	locks, err := filepath.Glob(filepath.Join(shared, "*.lock"))
	if err != nil || len(locks) != 1 {
		t.Fatalf("locks: %q, %v", locks, err)
	}
	if info, err := os.Lstat(locks[0]); err != nil || info.Mode() != 0o644 {
		t.Errorf("the lock is %v: %v", info.Mode(), err)
	}
	first := run(users[0], "--max-rate", "100")
	poll(t, "the first deletions", func() bool { return countKeys(t, c, sessionPrefix+"*") < few })
	second := prepare(binary, s.Addr, shared, "--user", "limited")
	second.Env = append(second.Env, "REDISCLI_AUTH=pw")
	second.Stdout, second.SysProcAttr = &second.stdout, &syscall.SysProcAttr{Credential: users[min(1, len(users)-1)]}
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	expect(t, second.end(t), janitor.Skipped, janitor.LeaseHeld, janitor.ExitDone)
	first.Process.Signal(syscall.SIGTERM)
	first.Wait()

	// What somebody has put in its place leads nowhere, and is named.
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := errors.Join(os.Remove(locks[0]), os.Symlink(elsewhere, locks[0])); err != nil {
		t.Fatal(err)
	}
	for _, there := range []bool{false, true} {
		if there {
			if err := os.WriteFile(elsewhere, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := run(nil).end(t)
		expect(t, r, janitor.Refused, "noperm", janitor.ExitNoServer)
		if !strings.Contains(r.Message, locks[0]) || !strings.Contains(r.Message, s.Addr) {
			t.Errorf("the message is %q", r.Message)
		}
		if _, err := os.Stat(elsewhere); there == (err != nil) {
			t.Errorf("what the link leads to: %v", err)
		}
	}
}

// startHalfWay starts a janitor that is slow, and returns when it has evicted something.
func startHalfWay(t *testing.T, binary string, s *redistest.Server, c *redis.Client, lockDir string, flags ...string) *process {
	t.Helper()
	p := start(t, binary, s.Addr, lockDir, append([]string{"--max-rate", "100"}, flags...)...)
	poll(t, "the first deletions", func() bool { return countKeys(t, c, sessionPrefix+"*") < few })
	return p
}

// pause has a janitor stand still.
func pause(t *testing.T, p *process) {
	t.Helper()
	p.Process.Signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("the janitor does not stand still: %v", err)
	}
}

func TestAnotherJanitorTakesOverWhenTheLeaseOfADeadOneHasRunOut(t *testing.T) {
	binary := build(t)
	s := redistest.Start(t)
	c := s.Client()
	loadUp(t, c)
	first := startHalfWay(t, binary, s, c, t.TempDir())
	first.Process.Kill()
	first.Wait()
	token := c.HGet(t.Context(), leaseKey, "token").Val()
	if ttl := c.PTTL(t.Context(), leaseKey).Val(); ttl <= 0 || ttl > 20*time.Second || token == "" {
		t.Fatalf("the dead janitor's lease stays for %s", ttl)
	}
	left := countKeys(t, c, sessionPrefix+"*")
	r := start(t, binary, s.Addr, t.TempDir(), "--ignore-cooldown").end(t)
	expect(t, r, janitor.Skipped, janitor.LeaseHeld, janitor.ExitDone)
	s.ResetStats()
	second := start(t, binary, s.Addr, t.TempDir(), "--ignore-cooldown", "--wait", "1m")
	poll(t, "the second janitor to ask for the lease more than once", func() bool { return s.CommandStats(t.Context())["evalsha"] >= 2 })
	if countKeys(t, c, sessionPrefix+"*") != left || c.HGet(t.Context(), leaseKey, "token").Val() != token {
		t.Error("it did not wait")
	}
	do(t, c, []any{"PEXPIRE", leaseKey, 1})
	expect(t, second.end(t), janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	if n := countKeys(t, c, sessionPrefix+"*"); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

func TestAJanitorThatStoodStillPastItsLeaseDeletesNothingMore(t *testing.T) {
	binary := build(t)
	s := redistest.Start(t)
	c := s.Client()
	loadUp(t, c)
	p := startHalfWay(t, binary, s, c, t.TempDir())
	pause(t, p)
	takeTheLease(t, s)
	left := allKeys(t, c)
	p.Process.Signal(syscall.SIGCONT)
	r := p.end(t)
	expect(t, r, janitor.Incomplete, janitor.LeaseLost, janitor.ExitIncomplete)
	if now := allKeys(t, c); len(now) != len(left) || r.Totals.Evicted != few-countKeys(t, c, sessionPrefix+"*") {
		t.Errorf("there were %d keys when it went on, and there are %d; the report says %+v", len(left), len(now), r.Totals)
	}
	if holder := c.HGet(t.Context(), leaseKey, "holder").Val(); holder != "another" {
		t.Errorf("the lease is held by %q now", holder)
	}
}

func TestTheLockOfThisHostOutlivesAStandstillAndNotADeath(t *testing.T) {
	binary := build(t)
	s := redistest.Start(t)
	c := s.Client()
	loadUp(t, c)
	flags, host := withoutOwnKeys(t, s), t.TempDir()
	first := startHalfWay(t, binary, s, c, host, flags...)
	pause(t, first)
	r := start(t, binary, s.Addr, host, flags...).end(t)
	expect(t, r, janitor.Skipped, janitor.LeaseHeld, janitor.ExitDone)
	first.Process.Kill()
	first.Wait()
	r = start(t, binary, s.Addr, host, flags...).end(t)
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	expectWarning(t, r, "no_lease")
	expectWarning(t, r, "no_cooldown")
}

func TestTheCooldownHoldsAcrossProcessesAndDeaths(t *testing.T) {
	binary := build(t)
	s := redistest.Start(t)
	c := s.Client()
	loadUp(t, c)
	first := startHalfWay(t, binary, s, c, t.TempDir())
	first.Process.Kill()
	first.Wait()
	do(t, c, []any{"DEL", leaseKey})
	left := countKeys(t, c, sessionPrefix+"*")
	r := start(t, binary, s.Addr, t.TempDir()).end(t)
	expect(t, r, janitor.Skipped, janitor.Cooldown, janitor.ExitDone)
	r = start(t, binary, s.Addr, t.TempDir(), "--fail-if-skipped").end(t)
	expect(t, r, janitor.Skipped, janitor.Cooldown, janitor.ExitIncomplete)
	if n := countKeys(t, c, sessionPrefix+"*"); n != left {
		t.Errorf("%d keys went within the cooldown", left-n)
	}
	r = start(t, binary, s.Addr, t.TempDir(), "--level", "critical").end(t)
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
}
