package keyspace

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"redis-janitor/janitor/redistest"
)

// reads are all the calls that are tried again, with what they must find after startReading.
var reads = []struct {
	name    string
	command string // the command that decides it
	run     func(ctx context.Context, n *Node) (any, error)
	want    any
}{
	{"Info", "INFO", func(ctx context.Context, n *Node) (any, error) {
		info, err := n.Info(ctx)
		return info.Text("run_id") == n.First().Text("run_id"), err
	}, true},
	{"Size", "DBSIZE", func(ctx context.Context, n *Node) (any, error) { return n.Size(ctx) }, int64(2)},
	{"Page", "SCAN", func(ctx context.Context, n *Node) (any, error) {
		keys, next, err := n.Page(ctx, 0, "users", 100)
		return fmt.Sprint(keys, next), err
	}, "[users] 0"},
	{"Facts", "PTTL", func(ctx context.Context, n *Node) (any, error) {
		facts, err := n.Facts(ctx, []string{"k", "users", "missing"}, Ask{})
		said := ""
		for _, f := range facts {
			said += fmt.Sprint(f.Expiry, " ")
		}
		return said, err
	}, "2 1 3 "},
	{"RandomKeys", "RANDOMKEY", func(ctx context.Context, n *Node) (any, error) {
		keys, err := n.RandomKeys(ctx, 30)
		return len(keys), err
	}, 30},
	{"CooldownLeft", "PTTL", func(ctx context.Context, n *Node) (any, error) {
		left, err := n.CooldownLeft(ctx)
		return left > time.Minute, err
	}, true},
	{"LeaseHolder", "HGETALL", func(ctx context.Context, n *Node) (any, error) {
		holder, held, err := n.LeaseHolder(ctx)
		return fmt.Sprintln(holder.Name, holder.Since, holder.Left > time.Second, held), err
	}, "host since true true\n"},
	{"Count", "SCARD", func(ctx context.Context, n *Node) (any, error) { return n.Count(ctx, "users") }, int64(3)},
	{"CommandCosts", "INFO", func(ctx context.Context, n *Node) (any, error) {
		costs, err := n.CommandCosts(ctx)
		return costs["hello"].Calls > 0, err
	}, true},
}

// startReading is a server with something to read, and a node with connections to DB 2 and to DB 0.
func startReading(t *testing.T) atWork {
	t.Helper()
	s := redistest.Start(t)
	w := atWork{s: s, proxy: redistest.Proxy(t, s.Addr), c: s.Client()}
	do(t, s.ClientDB(2), cmd("set", "k", "v", "px", 600_000), cmd("sadd", "users", "a", "b", "c"))
	do(t, w.c, cmd("set", CooldownKey, "m", "px", 120_000))
	w.n = open(t, options("redis://"+w.proxy.Addr+"/2", Evicting))
	if _, ours, err := w.n.TakeLease(t.Context(), "token", "host", "since", time.Minute, false); err != nil || !ours {
		t.Fatalf("taking the lease: %v, %v", ours, err)
	}
	return w
}

// answerTimes answers the first calls of a command, any in a row of the same pipeline as one, and
// counts all of them.
func (w atWork) answerTimes(times int64, reply, name string) (tries *atomic.Int64) {
	tries = new(atomic.Int64)
	w.proxy.Answer(func(command []string) (string, bool) {
		if !strings.EqualFold(command[0], name) || len(command) > 1 && strings.EqualFold(command[1], "server") {
			return "", false // INFO server belongs to the greeting
		}
		return reply, tries.Add(1) <= times
	})
	return tries
}

func TestReadingSurvivesWhatPasses(t *testing.T) {
	for _, r := range reads {
		t.Run(r.name, func(t *testing.T) {
			w := startReading(t)
			sees := func(state string) {
				t.Helper()
				if got, err := r.run(t.Context(), w.n); err != nil || got != r.want {
					t.Errorf("%s: got %v, want %v: %v", state, got, r.want, err)
				}
			}
			sees("undisturbed")
			w.proxy.DropNextReply(r.command)
			sees("a lost reply")
			w.proxy.Cut()
			sees("all connections cut")
			for _, refusal := range []string{"-LOADING Redis is loading the dataset in memory", "-BUSY Redis is busy running a script."} {
				tries := w.answerTimes(2, refusal, r.command)
				sees(refusal)
				if tries.Load() < 3 {
					t.Errorf("%s: tried %d times", refusal, tries.Load())
				}
			}
		})
	}
}

func TestReadingIsTriedSoOftenAndNoMore(t *testing.T) {
	w := startReading(t)
	for _, c := range []struct {
		reply string
		kind  Kind
		tries int64
	}{
		{"-LOADING Redis is loading the dataset in memory", Loading, readTries},
		{"-BUSY Redis is busy running a script.", BusyScript, readTries},
		{"-NOPERM this user has no permissions", NoPerm, 1},
		{"-ERR something else", Other, 1},
	} {
		tries := w.answerTimes(1000, c.reply, "DBSIZE")
		_, err := w.n.Size(t.Context())
		refused(t, err, c.kind)
		if tries.Load() != c.tries {
			t.Errorf("%s: tried %d times, want %d", c.reply, tries.Load(), c.tries)
		}
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	w := startReading(t)
	ctx, cancel := context.WithCancel(t.Context())
	tries := new(atomic.Int64)
	w.proxy.Answer(func(command []string) (string, bool) {
		if !strings.EqualFold(command[0], "DBSIZE") {
			return "", false
		}
		if tries.Add(1) == 2 {
			cancel()
		}
		return "-LOADING Redis is loading the dataset in memory", true
	})
	_, err := w.n.Size(ctx)
	refused(t, err, Stopped)
	if tries.Load() != 2 {
		t.Errorf("tried %d times, want 2", tries.Load())
	}
}

func TestWritingIsTriedOnce(t *testing.T) {
	w := startReading(t)
	for what, write := range map[string]func() error{
		"evicting": func() error {
			_, err := w.n.Evict(t.Context(), Batch{Keys: []string{"k"}, MaxTTL: time.Hour})
			return err
		},
		"taking the lease":    func() error { _, _, err := w.n.TakeLease(t.Context(), "token", "", "", time.Minute, true); return err },
		"releasing the lease": func() error { return w.n.ReleaseLease(t.Context(), "token") },
	} {
		for _, reply := range []string{"-LOADING Redis is loading the dataset in memory", "-BUSY Redis is busy running a script."} {
			tries := w.answerTimes(1000, reply, "EVALSHA")
			if err := write(); KindOf(err) != Loading && KindOf(err) != BusyScript {
				t.Errorf("%s: %v", what, err)
			}
			if tries.Load() != 1 {
				t.Errorf("%s was tried %d times", what, tries.Load())
			}
		}
	}
}

func TestTheFirstConnectionIsTriedOnce(t *testing.T) {
	addr, calls := answerOnce(t, "", false)
	_, err := Open(t.Context(), options("redis://"+addr, Reading))
	refused(t, err, Unreachable)
	if calls.Load() != 1 {
		t.Errorf("it was tried %d times", calls.Load())
	}
	w := startReading(t)
	tries := w.answerTimes(1000, "-LOADING Redis is loading the dataset in memory", "INFO")
	_, err = Open(t.Context(), options("redis://"+w.proxy.Addr, Reading))
	refused(t, err, Loading)
	if tries.Load() != 1 {
		t.Errorf("INFO was tried %d times", tries.Load())
	}
}

func TestAnotherRunOfTheServerIsNotGoneOnWith(t *testing.T) {
	for _, r := range reads {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			n := open(t, options("redis://"+s.Addr+"/2", Evicting))
			if _, _, err := n.TakeLease(t.Context(), "token", "", "", time.Minute, false); err != nil {
				t.Fatal(err)
			}
			s.Restart(t)
			_, err := r.run(t.Context(), n)
			if e := refused(t, err, Restarted); e.Hint == "" {
				t.Errorf("there is no hint: %v", err)
			}
			if _, ours, err := n.TakeLease(t.Context(), "token", "", "", time.Minute, true); KindOf(err) != Restarted || ours {
				t.Errorf("the lease was taken: %v, %v", ours, err)
			}
			for command := range s.CommandStats(t.Context()) {
				switch command {
				case "hello", "select", "client|setname", "info":
				default:
					t.Errorf("%s was sent to it", command)
				}
			}
		})
	}
}

func TestAServerThatLoadsIsWaitedForAndThenRead(t *testing.T) {
	dir := t.TempDir()
	s := redistest.Start(t, "--dir", dir)
	const keys = 2000
	for i := range keys {
		do(t, s.Client(), cmd("set", fmt.Sprint(i), strings.Repeat("x", 100)))
	}
	do(t, s.Client(), cmd("save"))
	s.Kill()
	// Slowed down to some seconds, with a look at its connections every few keys.
	s = redistest.Start(t, "--dir", dir, "--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024")
	n := open(t, options(s.URL(), Reading))
	_, err := n.Size(t.Context())
	refused(t, err, Loading)
	if err := n.First().Ready(n.Addr()); KindOf(err) != Loading {
		t.Errorf("INFO says that it is ready: %v", err)
	}
	do(t, s.Client(), cmd("config", "set", "key-load-delay", 0))
	eventually(t, "the data to be loaded", func() bool {
		size, err := n.Size(t.Context())
		return err == nil && size == keys
	})
}

func TestReadingGoesOnAfterSomeonesLongScript(t *testing.T) {
	w := startReading(t)
	occupy(t, w)
	tries := new(atomic.Int64)
	w.proxy.Answer(func(command []string) (string, bool) {
		if strings.EqualFold(command[0], "DBSIZE") && tries.Add(1) == 2 {
			do(t, w.s.Client(), cmd("script", "kill"))
		}
		return "", false
	})
	if size, err := w.n.Size(t.Context()); err != nil || size != 2 {
		t.Errorf("size %d after %d tries: %v", size, tries.Load(), err)
	}
}

func TestFailedDialsDoNotKeepUsFromTheNext(t *testing.T) {
	w := startWork(t)
	w.proxy.Refuse(true)
	w.proxy.Cut()
	for range 20 {
		_, err := w.n.Ping(t.Context())
		refused(t, err, Unreachable)
	}
	w.proxy.Refuse(false)
	if _, err := w.n.Ping(t.Context()); err != nil {
		t.Errorf("the first try after it: %v", err)
	}

	alone := startWork(t)
	o := options(alone.s.URL(), Evicting)
	n := open(t, o)
	alone.s.Kill()
	for range 20 {
		_, err := n.Ping(t.Context())
		refused(t, err, Unreachable)
	}
	alone.s.Restart(t)
	_, err := n.Ping(t.Context())
	refused(t, err, Restarted) // reached at once, and known to be another
}

func TestConnectionsThatTheServerClosedAreNotUsed(t *testing.T) {
	s := redistest.Start(t)
	n, c := evicting(t, s), s.Client()
	for range 5 {
		do(t, c, cmd("set", "k", "v", "px", 60_000))
		if r := evict(t, n, Batch{Keys: []string{"k"}, MaxTTL: time.Hour}); fates(r) != "e" {
			t.Fatalf("the fate is %s, want e", fates(r))
		}
		do(t, c, cmd("client", "kill", "type", "normal", "skipme", "yes"))
		eventually(t, "our connections to be closed", func() bool {
			return !strings.Contains(c.ClientList(t.Context()).Val(), "name=redis-janitor ")
		})
	}
}

func TestPausesDoubleAndPartlyDependOnChance(t *testing.T) {
	for try, longest := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		if got := pause(try, 0); got != longest/2 {
			t.Errorf("try %d waits at least %s, want %s", try, got, longest/2)
		}
		if got := pause(try, 0.5); got != longest*3/4 {
			t.Errorf("try %d waits %s half-way, want %s", try, got, longest*3/4)
		}
		if got := pause(try, 0.999999999); got > longest || got < longest-time.Microsecond {
			t.Errorf("try %d waits at most %s, want %s", try, got, longest)
		}
	}
}
