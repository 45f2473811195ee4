package redistest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-janitor/janitor/redistest"
)

func TestServersAreApart(t *testing.T) {
	a, b := redistest.Start(t), redistest.Start(t)
	ctx := context.Background()
	if err := a.Client().Set(ctx, "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n := b.Client().Exists(ctx, "key").Val(); n != 0 || a.Port == b.Port || a.Dir == b.Dir {
		t.Fatalf("%s and %s share something", a.Addr, b.Addr)
	}
}

func TestArgumentsWinOverTheDefaults(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--maxmemory", "5mb")
	ctx := context.Background()
	for name, want := range map[string]string{"appendonly": "yes", "maxmemory": "5242880", "save": ""} {
		if got := s.Client().ConfigGet(ctx, name).Val()[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestAServerIsGoneWhenItsTestIsOver(t *testing.T) {
	var s *redistest.Server
	t.Run("inner", func(t *testing.T) { s = redistest.Start(t) })
	if err := syscall.Kill(s.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v, want it gone", s.PID(), err)
	}
	if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
		t.Errorf("folder %s: %v, want it gone", s.Dir, err)
	}
}

func TestARestartKeepsPortFolderAndData(t *testing.T) {
	// It answers while it loads, and loads for long enough that a first command would come too early.
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always", "--loading-process-events-interval-bytes", "1024")
	ctx := context.Background()
	if err := s.Client().Eval(ctx, "for i = 1, 300000 do redis.call('SET', 'k' .. i, i) end return 'OK'", nil).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.Client().Set(ctx, "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	addr, pid := s.Addr, s.PID()
	s.Kill()
	if err := s.Client().Ping(ctx).Err(); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Restart(t)
	if s.Addr != addr || s.PID() == pid {
		t.Fatalf("restarted on %s as %d, was on %s as %d", s.Addr, s.PID(), addr, pid)
	}
	if got, err := s.Client().Get(ctx, "key").Result(); got != "value" {
		t.Fatalf("after a restart the key holds %q (%v)", got, err)
	}
}

func TestAPausedServerDoesNotAnswerUntilItIsResumed(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	if err := c.Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Fatal("a paused server answers")
	}
	s.Resume()
	if err := c.Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestAServerWithAPasswordStarts(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "secret")
	if err := s.Client().Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestAMissingRedisServerFailsATestAndSaysWhatToInstall(t *testing.T) {
	self := exec.Command(os.Args[0], "-test.run=^TestServersAreApart$")
	self.Env = append(os.Environ(), "PATH="+t.TempDir())
	out, err := self.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "apt-get install redis-server") || strings.Contains(string(out), "SKIP") {
		t.Fatalf("without redis-server: %v, %s", err, out)
	}
}
