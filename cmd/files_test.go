package cmd

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-janitor/janitor"
)

func TestASignalEndsTheWaitForAPasswordThatNobodyWrites(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "password")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Whoever still waits for it hears that it is empty.
		if in, err := os.OpenFile(pipe, os.O_RDWR, 0); err == nil {
			_ = in.Close()
		}
	})
	for _, args := range [][]string{{"plan"}, {"execute", "--yes"}, {"restore", "a.capsule", "--yes"}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(&janitor.Signal{Name: "SIGTERM", Exit: janitor.ExitTerminate})
		var out, complaints bytes.Buffer
		code := Run(ctx, System{
			Args: append(args, "-o", "json", "--password-file", pipe), In: strings.NewReader(""), Out: &out, Err: &complaints,
			Now: time.Now, Root: os.DirFS("/"), LockDir: t.TempDir(), Hostname: "test", PID: 1,
		})
		if code != janitor.ExitTerminate || !strings.Contains(out.String(), `"reason": "interrupted"`) {
			t.Errorf("%s: exit %d, %s%s", args[0], code, out.String(), complaints.String())
		}
	}
}
