package janitor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// program is what operators run, made when the first test asks for it.
var program struct {
	once      sync.Once
	dir, path string
	err       error
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(program.dir)
	os.Exit(code)
}

// build makes the program as operators run it.
func build(t *testing.T) (binary string) {
	t.Helper()
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "redis-janitor-test"); program.err != nil {
			return
		}
		// Other users of this machine may be to run it.
		if program.err = os.Chmod(program.dir, 0o755); program.err != nil {
			return
		}
		program.path = filepath.Join(program.dir, "redis-janitor")
		out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program.path, "redis-janitor").CombinedOutput()
		if err != nil {
			program.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatalf("building: %v", program.err)
	}
	return program.path
}

// process is one janitor at work.
type process struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
}

// start starts an execute at level force, on the host whose locks live in lockDir, that reports in JSON.
func start(t *testing.T, binary, addr, lockDir string, args ...string) *process {
	t.Helper()
	p := prepare(binary, addr, lockDir, args...)
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill() })
	return p
}

func prepare(binary, addr, lockDir string, args ...string) *process {
	words := append([]string{"execute", "-u", "redis://" + addr, "-o", "json", "--yes", "--level", "force", "--target", "none", "--ignore-busy"}, args...)
	p := &process{Cmd: exec.Command(binary, words...)}
	p.Env = []string{"TMPDIR=" + lockDir, "PATH=" + os.Getenv("PATH")}
	return p
}

// pinnedPolicy is the built-in policy, which also protects what plantAll has pinned.
func pinnedPolicy(t *testing.T, binary string) (file string) {
	t.Helper()
	shown, err := exec.Command(binary, "execute", "--policy-show").Output()
	if err != nil {
		t.Fatal(err)
	}
	more := "protect: ["
	for _, prefix := range pinned {
		more += strconv.Quote(prefix+"*") + ", "
	}
	policy := strings.Replace(string(shown), "protect: [", more, 1)
	file = filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil || policy == string(shown) {
		t.Fatalf("adding to %s: %v", shown, err)
	}
	return file
}

// end waits for a janitor's end and reads its report.
func (p *process) end(t *testing.T) *janitor.Report {
	t.Helper()
	err := p.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var r janitor.Report
	if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil {
		t.Fatalf("exit %d, and no report: %v\n%s%s", p.ProcessState.ExitCode(), err, p.stdout.Bytes(), p.stderr.Bytes())
	}
	if r.ExitCode != p.ProcessState.ExitCode() {
		t.Errorf("exit %d, and the report says %d (%s)", p.ProcessState.ExitCode(), r.ExitCode, r.Message)
	}
	return &r
}

// killAfter kills a janitor a while after its start or, where it is told to, after its first deletion.
func (p *process) killAfter(t *testing.T, a time.Duration, deletion bool, c *redis.Client) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		p.Wait()
		close(ended)
	}()
	over := func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
	if deletion {
		poll(t, "the first deletion", func() bool { return over() || keyExists(t, c, cooldownKey) })
	}
	select {
	case <-ended:
	case <-time.After(a):
	}
	p.Process.Kill()
	<-ended
}

// expectOnlyQualified holds key by key that nothing is gone that did not qualify. It returns how many keys have gone and
// how many are still to go.
func expectOnlyQualified(t *testing.T, left map[string]bool, before map[string]redistest.Key, started, ended time.Time) (gone, toGo int) {
	t.Helper()
	for name, key := range before {
		want := fateOf(name, key, ttlpolicy.Force, started, ended)
		switch {
		case !left[name] && want != goes && want != either:
			t.Errorf("%q (%+v, %s) is gone", name, key, want)
		case !left[name]:
			gone++
		case want == goes:
			toGo++
		}
	}
	return gone, toGo
}

// expectUnchanged holds that what is left is as it was.
func expectUnchanged(t *testing.T, c *redis.Client, before map[string]redistest.Key) {
	t.Helper()
	for name, key := range redistest.Snapshot(t.Context(), c) {
		if was, known := before[name]; known && was != key {
			t.Errorf("%q was %+v and is %+v", name, was, key)
		}
	}
}

func TestKilledAtAnyMomentAJanitorLeavesOnlyWhatDidNotQualify(t *testing.T) {
	const kills = 100
	binary, lockDir := build(t), t.TempDir()
	policy := pinnedPolicy(t, binary)
	s := redistest.Start(t)
	c := s.Client()
	random := rand.New(rand.NewPCG(11, 17))
	before, beforeGone, planted := map[string]redistest.Key{}, 0, time.Time{}
	early, halfway, late := 0, 0, 0
	for i := range kills {
		if i%20 == 0 {
			expectUnchanged(t, c, before)
			do(t, c, []any{"FLUSHDB"})
			plantAll(t, c, 1)
			planted, beforeGone = time.Now(), 0
			before = redistest.Snapshot(t.Context(), c)
		}
		rate := "800" // a round of twenty leaves something
		if i%20 == 19 && i < kills-1 {
			rate = "8000" // and its last is killed near the end
		}
		p := start(t, binary, s.Addr, lockDir, "-p", policy, "--ignore-cooldown", "--max-rate", rate)
		// One in five while it starts, the others from its first deletion on, however fast the machine is.
		p.killAfter(t, time.Duration(random.IntN(250_000))*time.Microsecond, i%5 > 0, c)
		gone, toGo := expectOnlyQualified(t, allKeys(t, c), before, planted, time.Now())
		switch {
		case gone == beforeGone:
			early++
		case toGo > 0:
			halfway++
		default:
			late++
		}
		if gone > beforeGone && !keyExists(t, c, cooldownKey) {
			t.Error("keys are gone and no cooldown has begun")
		}
		beforeGone = gone
		// The lease frees itself; not to wait for it, the test does.
		if ttl := c.PTTL(t.Context(), leaseKey).Val(); ttl > 20*time.Second || ttl == -1 {
			t.Errorf("a dead janitor's lease stays for %s", ttl)
		}
		do(t, c, []any{"DEL", leaseKey, cooldownKey})
		if t.Failed() {
			t.Fatalf("after kill %d", i+1)
		}
	}
	t.Logf("%d were killed before their first deletion, %d after it and %d when all was done", early, halfway, late)
	if halfway < kills/5 {
		t.Error("that shows little")
	}
	r := start(t, binary, s.Addr, lockDir, "-p", policy).end(t)
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	if _, toGo := expectOnlyQualified(t, allKeys(t, c), before, planted, time.Now()); toGo > 0 {
		t.Errorf("the next run left %d keys that qualify", toGo)
	}
	expectUnchanged(t, c, before)
}

func TestASignalEndsARunAfterTheBatchInHandWithItsReport(t *testing.T) {
	binary := build(t)
	heedHangUps(t)
	for _, sent := range []struct {
		signal syscall.Signal
		times  int
		exit   int
	}{{syscall.SIGINT, 1, janitor.ExitInterrupt}, {syscall.SIGTERM, 1, janitor.ExitTerminate}, {syscall.SIGHUP, 2, janitor.ExitHangUp}} {
		for _, moment := range []struct {
			name string
			when func(cmd []string) bool
			args []string
		}{
			{"while it looks around", func(cmd []string) bool { return strings.EqualFold(cmd[0], "dbsize") }, nil},
			{"while it waits for the lease", func(cmd []string) bool { return cmd[0] == "evalsha" && evictionKeys(cmd) == nil }, []string{"--wait", "1h"}},
			{"at its first deletion", func(cmd []string) bool { return evictionKeys(cmd) != nil }, nil},
			{"half-way", nil, nil},
			{"half-way, by a waterline", nil, []string{"--max-keys", "1000000"}},
		} {
			t.Run(sent.signal.String()+" "+moment.name, func(t *testing.T) {
				s := redistest.Start(t)
				c := s.Client()
				loadUp(t, c)
				if len(moment.args) > 0 && moment.args[0] == "--wait" {
					takeTheLease(t, s)
				}
				proxy := redistest.Proxy(t, s.Addr)
				p := prepare(binary, proxy.Addr, t.TempDir(), moment.args...)
				p.Stdout, p.Stderr = &p.stdout, &p.stderr
				started := make(chan *os.Process, 1)
				// A second SIGINT or SIGTERM would end it at once.
				send := sync.OnceFunc(func() {
					p := <-started
					for range sent.times {
						p.Signal(sent.signal)
					}
				})
				if moment.when == nil {
					atEviction(proxy, 5, send)
				} else {
					proxy.Answer(func(cmd []string) (string, bool) {
						if moment.when(cmd) {
							send()
						}
						return "", false
					})
				}
				if err := p.Start(); err != nil {
					t.Fatal(err)
				}
				started <- p.Process
				r := p.end(t)
				expect(t, r, janitor.Incomplete, janitor.Interrupted, sent.exit)
				gone := few - countKeys(t, c, sessionPrefix+"*")
				if r.Totals.Evicted != gone || r.Totals.Uncertain != 0 || gone == few || moment.when == nil && gone == 0 {
					t.Errorf("%d keys are gone; the report says %+v", gone, r.Totals)
				}
				if len(moment.args) == 0 && keyExists(t, c, leaseKey) {
					t.Error("the lease is still there")
				}
			})
		}
	}
}

// heedHangUps has programs that a test starts hear SIGHUP, though the tests themselves were started by nohup.
func heedHangUps(t *testing.T) {
	t.Helper()
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })
}

func TestUnderNohupAHangUpEndsNothing(t *testing.T) {
	s := redistest.Start(t)
	loadUp(t, s.Client())
	proxy := redistest.Proxy(t, s.Addr)
	p := prepare(build(t), proxy.Addr, t.TempDir())
	p.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$0" "$@"`}, p.Args...)
	p.Path, _ = exec.LookPath("sh")
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	started := make(chan *os.Process, 1)
	atEviction(proxy, 5, func() { (<-started).Signal(syscall.SIGHUP) })
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	started <- p.Process
	expect(t, p.end(t), janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
}

func TestAReaderThatGoesAwayEndsNoRun(t *testing.T) {
	binary := build(t)
	for _, it := range []struct {
		name           string
		stdout, stderr bool // whether somebody reads it
		exit           int
	}{{"of the progress", true, false, 0}, {"of the report", false, true, 1}, {"of either", false, false, 1}} {
		t.Run(it.name, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			loadUp(t, c)
			p := prepare(binary, s.Addr, t.TempDir(), "-v")
			unread := func() *os.File {
				reader, writer, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				reader.Close()
				t.Cleanup(func() { writer.Close() })
				return writer
			}
			p.Stdout, p.Stderr = &p.stdout, &p.stderr
			if !it.stdout {
				p.Stdout = unread()
			}
			if !it.stderr {
				p.Stderr = unread()
			}
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			p.Wait()
			if code := p.ProcessState.ExitCode(); code != it.exit {
				t.Errorf("exit %d, want %d: %s", code, it.exit, p.stderr.Bytes())
			}
			if n := dbSize(t, c); n != 1 || !keyExists(t, c, cooldownKey) {
				t.Errorf("%d keys are there, want only the cooldown", n)
			}
			if it.stderr && !strings.Contains(p.stderr.String(), "evicted 2000 keys") {
				t.Errorf("what became of the run is not told on stderr either: %s", p.stderr.Bytes())
			}
		})
	}
}

func TestStoppedAtAnyMomentARunSaysWhatEndedItAndCountsWhatIsGone(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	p := redistest.Proxy(t, s.Addr)
	p.SetDelay(time.Millisecond)
	var done, stopped int
	for i := range 60 {
		do(t, c, []any{"FLUSHDB"})
		loadUp(t, c)
		after := time.Duration(i/4*15) * time.Millisecond
		changes := []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget, through(p), fast}
		if i%2 == 1 {
			changes = append(changes, func(r *janitor.Request) { r.MaxKeys = 10 * few })
		}
		ctx, reason, exit := t.Context(), janitor.Deadline, janitor.ExitIncomplete
		if i/2%2 == 1 {
			var cancel context.CancelCauseFunc
			ctx, cancel = context.WithCancelCause(ctx)
			timer := time.AfterFunc(after, func() { cancel(&janitor.Signal{Name: "SIGINT", Exit: janitor.ExitInterrupt}) })
			defer timer.Stop()
			reason, exit = janitor.Interrupted, janitor.ExitInterrupt
		} else {
			changes = append(changes, func(r *janitor.Request) { r.Deadline = after + 1 })
		}
		r := cleanOn(ctx, t, t.TempDir(), s, changes...)
		gone := few - countKeys(t, c, sessionPrefix+"*")
		if r.Outcome == janitor.Evicted {
			done++
			expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
		} else {
			stopped++
			expect(t, r, janitor.Incomplete, reason, exit)
		}
		// A stop may also come between the last batch and the end of the walk.
		if r.Totals.Evicted != gone || r.Totals.Uncertain != 0 || r.Outcome == janitor.Evicted && gone != few {
			t.Errorf("stopped after %s: %d keys are gone; the report says %+v (%s)", after, gone, r.Totals, r.Message)
		}
		if r.Totals.Scanned < r.Totals.Matched {
			t.Errorf("stopped after %s: of %d keys that were scanned %d matched", after, r.Totals.Scanned, r.Totals.Matched)
		}
		if keyExists(t, c, leaseKey) {
			t.Error("the lease is still there")
		}
	}
	t.Logf("%d runs were done before they could be stopped, %d were stopped", done, stopped)
	if stopped < 20 {
		t.Error("that shows little")
	}
}

func TestStoppedWhileTheServerStandsStillARunAsksItNothingMuchMore(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	loadUp(t, c)
	p := redistest.Proxy(t, s.Addr)
	ctx, cancel := context.WithCancelCause(t.Context())
	var mu sync.Mutex
	after, batches := map[string]int{}, 0
	stopped := false
	p.Answer(func(cmd []string) (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		if evictionKeys(cmd) != nil {
			if batches++; batches == 5 {
				s.Pause()
				cancel(&janitor.Signal{Name: "SIGTERM", Exit: janitor.ExitTerminate})
				stopped = true
				return "", false
			}
		}
		if stopped {
			after[strings.ToLower(cmd[0])]++
		}
		return "", false
	})
	defer s.Resume()
	r := cleanOn(ctx, t, t.TempDir(), s, atLevel(ttlpolicy.Force), calm, noTarget, through(p), func(r *janitor.Request) {
		r.Connection.CommandTimeout = 2 * time.Second // so that one that is tried again and again is seen
	})
	s.Resume()
	expect(t, r, janitor.Incomplete, janitor.Interrupted, janitor.ExitTerminate)
	if r.Totals.Evicted == 0 || r.Totals.Uncertain == 0 {
		t.Fatalf("the report says %+v", r.Totals)
	}
	// What was on its way, memory once more, and the lease; each may come to no more than a handshake.
	mu.Lock()
	defer mu.Unlock()
	sum := 0
	for _, n := range after {
		sum += n
	}
	if sum > 5 {
		t.Errorf("after the stop it asked %v", after)
	}
}

func TestALeaseIsGivenBackThoughARenewalIsUnderWayAtTheEnd(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	loadUp(t, c)
	p := redistest.Proxy(t, s.Addr)
	var asked atomic.Int32
	ended := make(chan struct{})
	p.Answer(func(cmd []string) (string, bool) {
		if !strings.EqualFold(cmd[0], "EVALSHA") || len(cmd) < 6 || cmd[3] != leaseKey || asked.Add(1) != 2 {
			return "", false
		}
		poll(t, "the last batch", func() bool { return countKeys(t, c, sessionPrefix+"*") == 0 })
		select {
		case <-time.After(1500 * time.Millisecond): // longer than the giving back may take
		case <-ended:
			t.Error("the run ended before its renewal did")
		}
		return "", false
	})
	r := clean(t, s, atLevel(ttlpolicy.Force), calm, noTarget, through(p), func(r *janitor.Request) { r.MaxRate = few / 6 })
	close(ended)
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	if n := asked.Load(); n < 2 || keyExists(t, c, leaseKey) {
		t.Errorf("the lease was asked for %d times; it is still there: %t", n, keyExists(t, c, leaseKey))
	}
}

// The server still has the lease, so that nothing but the janitor's own clock can tell.
func TestAJanitorWhoseRenewalsGetNoAnswerStopsWhenItsLeaseHasRunOutByItsClock(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	loadUp(t, c)
	p := redistest.Proxy(t, s.Addr)
	var asked atomic.Int32
	ended := make(chan struct{})
	p.Answer(func(cmd []string) (string, bool) {
		if strings.EqualFold(cmd[0], "EVALSHA") && len(cmd) > 5 && cmd[3] == leaseKey && asked.Add(1) > 1 {
			do(t, c, []any{"PERSIST", leaseKey})
			<-ended
		}
		return "", false
	})
	r := clean(t, s, atLevel(ttlpolicy.Force), calm, noTarget, through(p), func(r *janitor.Request) {
		r.MaxRate, r.Connection.CommandTimeout = few/25, time.Second
	})
	close(ended)
	expect(t, r, janitor.Incomplete, janitor.LeaseLost, janitor.ExitIncomplete)
	gone := few - countKeys(t, c, sessionPrefix+"*")
	if r.Totals.Evicted != gone || gone == 0 || gone == few || asked.Load() < 2 {
		t.Errorf("%d keys are gone, the lease was asked for %d times; the report says %+v", gone, asked.Load(), r.Totals)
	}
	if !strings.Contains(r.Message, "lease ran out while it stood still") {
		t.Errorf("the message is %q", r.Message)
	}
}
