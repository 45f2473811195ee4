package cmd

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"redis-janitor/janitor"
)

func demoSystem(t *testing.T, args ...string) (System, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	var out, complaints bytes.Buffer
	return System{
		Args: append([]string{"demo"}, args...), In: strings.NewReader(""), Out: &out, Err: &complaints, Now: time.Now,
		Root: os.DirFS("/"), LockDir: t.TempDir(), Hostname: "test", PID: 1,
	}, &out, &complaints
}

func TestTheDemoTellsItsStoryInLinesThatFit(t *testing.T) {
	sys, out, complaints := demoSystem(t)
	// A server that somebody really has must not be asked.
	sys.Environ = []string{"REDIS_URL=redis://127.0.0.1:1/0", "COLUMNS=72"}
	if code := Run(t.Context(), sys); code != janitor.ExitDone || complaints.Len() > 0 {
		t.Fatalf("exit %d: %s", code, complaints)
	}
	for _, part := range []string{"embedded Redis (miniredis)", "\n1. ", "\n5. What was kept\n", "EVICTED", "SKIPPED", "never at cleanup"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the demo does not say %q", part)
		}
	}
	for line := range strings.Lines(out.String()) {
		if width := utf8.RuneCountInString(strings.TrimRight(line, "\n")); width > 72 {
			t.Errorf("%d columns: %s", width, line)
		}
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestADemoThatNobodyReadsIsNoSuccess(t *testing.T) {
	sys, _, complaints := demoSystem(t)
	sys.Out = closedPipe{}
	if code := Run(t.Context(), sys); code != janitor.ExitFailed || !strings.Contains(complaints.String(), "broken pipe") {
		t.Errorf("exit %d: %s", code, complaints)
	}
}
