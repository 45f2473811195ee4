package cmd_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"redis-janitor/cmd"
	"redis-janitor/janitor/redistest"
)

// openTerminal is a pseudo terminal of 80 columns: its own end, and that of the program.
func openTerminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	var number, unlocked uint32
	size := [4]uint16{24, 80, 0, 0}
	for request, argument := range map[uintptr]unsafe.Pointer{
		syscall.TIOCSPTLCK: unsafe.Pointer(&unlocked), syscall.TIOCGPTN: unsafe.Pointer(&number), syscall.TIOCSWINSZ: unsafe.Pointer(&size),
	} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, ours.Fd(), request, uintptr(argument)); errno != 0 {
			t.Fatal(errno)
		}
	}
	theirs, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func plant(t *testing.T, s *redistest.Server, count, size int, name func(i int) string) {
	t.Helper()
	_, err := s.Client().Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range count {
			p.Set(t.Context(), name(i), strings.Repeat("v", size), time.Hour)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheProgramsBarIsOnTheTerminalAndGoneInTheEnd(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "redis-janitor")
	if out, err := exec.Command("go", "build", "-o", bin, "redis-janitor").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	s := redistest.Start(t)
	plant(t, s, 600, 100, func(i int) string { return "ml_results:" + strconv.Itoa(i) })
	ours, theirs := openTerminal(t)
	// So slowly that the bar is drawn a few times.
	p := exec.Command(bin, "execute", "--yes", "-u", s.URL(), "--level", "force", "--target", "none", "--max-rate", "400")
	p.Stdin, p.Stdout, p.Stderr = theirs, theirs, theirs
	p.Env = []string{"TMPDIR=" + t.TempDir(), "TERM=xterm-256color", "LANG=C.UTF-8"}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	var screen bytes.Buffer
	_, _ = io.Copy(&screen, ours) // ends with EIO where nobody has the other end any more
	if err := p.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, screen.String())
	}
	drawn := regexp.MustCompile(`\rwalk 1 \[[^\]\r\n]+\] [\d,.kM]+/600[^\r\n]*\x1b\[K`)
	if !drawn.Match(screen.Bytes()) {
		t.Errorf("there was no bar: %q", screen.String())
	}
	if !strings.Contains(screen.String(), "EVICTED") {
		t.Errorf("there is no report: %q", screen.String())
	}
	// What stays on a line is what follows the last erasure of it.
	for line := range strings.Lines(screen.String()) {
		if at := strings.LastIndex(line, "\r\x1b[K"); at >= 0 {
			line = line[at:]
		}
		if strings.Contains(line, "walk 1 ") || strings.Contains(line, "survey ") {
			t.Errorf("it is still there: %q", line)
		}
	}
}

func TestThatRSSStaysIsToldOfARealServerAndOnce(t *testing.T) {
	s := redistest.Start(t)
	// Pages that hold both what goes and what stays cannot be given back.
	plant(t, s, 40_000, 400, func(i int) string {
		return []string{"ml_results:", "celery-task-meta-"}[i%2] + strconv.Itoa(i)
	})
	var out, complaints bytes.Buffer
	code := cmd.Run(t.Context(), cmd.System{
		Args: []string{"execute", "--yes", "-u", s.URL(), "--level", "force", "--target", "none", "--pace", "fast"},
		In:   strings.NewReader(""), Out: &out, Err: &complaints, Width: 80, Now: time.Now, Root: os.DirFS("/"), LockDir: t.TempDir(), Hostname: "host", PID: 1,
	})
	text := out.String()
	if code != 0 {
		t.Fatalf("exit %d: %s%s", code, text, complaints.String())
	}
	for _, once := range []string{"rss_stays", "allocator", "held from the system"} {
		if n := strings.Count(text, once); n != 1 {
			t.Errorf("%q stands there %d times:\n%s", once, n, text)
		}
	}
	if !regexp.MustCompile(`about [\d.]+ MB were`).MatchString(text) {
		t.Errorf("it does not say how much was freed:\n%s", text)
	}
}
