package cmd_test

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"redis-janitor/cmd"
	"redis-janitor/janitor/redistest"
)

// terminal is a screen that is read while it is written to.
type terminal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *terminal) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// hesitant answers after a while in which a line of progress would have been drawn several times.
type hesitant struct {
	answer io.Reader
	wait   time.Duration
}

func (h hesitant) Read(p []byte) (int, error) {
	time.Sleep(h.wait)
	return h.answer.Read(p)
}

func TestNothingIsDrawnOverTheQuestion(t *testing.T) {
	s := redistest.Start(t)
	for i := range 30 {
		if err := s.Client().Set(t.Context(), "ml_results:"+strings.Repeat("x", i), "v", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var out, screen terminal
	code := cmd.Run(t.Context(), cmd.System{
		Args: []string{"execute", "-u", s.URL(), "--level", "force", "--target", "none"}, In: hesitant{strings.NewReader("no\n"), 400 * time.Millisecond},
		Out: &out, Err: &screen, InTerminal: true, OutTerminal: true, ErrTerminal: true, Width: 80,
		Now: time.Now, Root: os.DirFS("/"), LockDir: t.TempDir(), Hostname: "host", PID: 1,
	})
	_, after, asked := strings.Cut(screen.String(), "Type yes to delete them, anything else to leave: ")
	if code != 4 || !asked || strings.TrimPrefix(after, "\r\x1b[K") != "" || !strings.Contains(out.String(), "not confirmed") {
		t.Errorf("exit code %d, and behind the question stood %q", code, after)
	}
}
