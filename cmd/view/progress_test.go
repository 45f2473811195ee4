package view

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/lipgloss"

	"redis-janitor/janitor"
)

// handClock stands still but for tick, and for what a test sends on ticks itself.
type handClock struct {
	now   time.Time
	every time.Duration
	ticks chan time.Time
}

func newHandClock() *handClock {
	return &handClock{now: time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC), ticks: make(chan time.Time)}
}

func (c *handClock) Now() time.Time { return c.now }

func (c *handClock) Ticks(d time.Duration) (ticks <-chan time.Time, stop func()) {
	c.every = d
	return c.ticks, func() {}
}

// tick does what the meter's goroutine does with n ticks, but is done when it returns.
func (c *handClock) tick(m *Meter, n int) {
	for range n {
		c.now = c.now.Add(c.every)
		m.draw(c.now)
	}
}

// screen is a stream whose writes can be counted, and which can be made to hang.
type screen struct {
	mu     sync.Mutex
	text   strings.Builder
	writes int
	hang   chan struct{}
}

func (s *screen) Write(text []byte) (int, error) {
	if s.hang != nil {
		<-s.hang
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	return s.text.Write(text)
}

func walk(scanned, evicted, freed int64) janitor.Progress {
	return janitor.Progress{Node: "10.0.0.5:6379", Phase: "walk", Walk: 1, Keys: 1_204_331, Scanned: scanned, Evicted: evicted, FreedBytes: freed, NeedBytes: 1_846_835_937}
}

func TestWhileSomebodyIsAskedNothingIsDrawn(t *testing.T) {
	out, clock := &screen{}, newHandClock()
	m := NewMeter(MeterOptions{Out: out, Terminal: true, Clock: clock})
	m.Update(walk(602_165, 216_615, 923_417_968))
	clock.tick(m, 1)
	resume := m.Hold()
	if text := out.text.String(); !strings.HasSuffix(text, "\r\x1b[K") {
		t.Errorf("the line is still there: %q", text)
	}
	writes := out.writes
	clock.tick(m, 3)
	if out.writes != writes {
		t.Errorf("it was drawn over: %q", out.text.String())
	}
	resume()
	clock.tick(m, 1)
	if out.writes == writes {
		t.Error("it is not drawn any more")
	}
	m.Close()
}

func TestOnATerminalOneLineIsRedrawnAndClearedInTheEnd(t *testing.T) {
	for width, want := range map[int]string{
		60:  "\rwalk 1 602k/1.20M, 602k/s, 217k gone (881 MB), 881 MB left\x1b[K",
		0:   "\rwalk 1 [#######.........] 602k/1.20M, 602k/s, 217k gone (881 MB), 881 MB left\x1b[K",
		120: "\rwalk 1 [###########.............] 602,165/1,204,331 keys, 602,165/s, 216,615 evicted, 880.64 MB freed, 880.64 MB left\x1b[K",
	} {
		out, clock := &screen{}, newHandClock()
		m := NewMeter(MeterOptions{Out: out, Terminal: true, Width: width, Clock: clock})
		clock.tick(m, 1) // nothing is known yet, so nothing is shown
		m.Update(janitor.Progress{Phase: "survey", Node: "10.0.0.5:6379"})
		clock.tick(m, 1)
		m.Update(walk(602_165, 216_615, 923_417_968))
		clock.tick(m, 10)
		m.Close()
		text := out.text.String()
		if !strings.Contains(text, want) {
			t.Errorf("at %d, %q is missing from %q", width, want, text)
		}
		if !strings.HasSuffix(text, "\r\x1b[K") || strings.Contains(text, "\n") {
			t.Errorf("at %d, the line is not cleared: %q", width, text)
		}
		if out.writes != 12 {
			t.Errorf("%d writes in 12 ticks and a Close, of which one had nothing to show", out.writes)
		}
	}
}

func TestEveryTickOfTheClockDraws(t *testing.T) {
	out, clock := &screen{}, newHandClock()
	m := NewMeter(MeterOptions{Out: out, Clock: clock})
	m.Update(walk(1, 0, 0))
	for range 3 {
		clock.ticks <- clock.now
	}
	m.Close() // waits for the last draw
	if got := strings.Count(out.text.String(), "\n"); got != 3 {
		t.Errorf("%d lines in 3 ticks", got)
	}
}

func TestATerminalIsRedrawnTenTimesASecondAtMost(t *testing.T) {
	clock := newHandClock()
	NewMeter(MeterOptions{Out: &screen{}, Terminal: true, Clock: clock}).Close()
	if clock.every < 100*time.Millisecond {
		t.Errorf("every %s", clock.every)
	}
}

func TestOffATerminalThereIsAPlainLineEveryTenSeconds(t *testing.T) {
	out, clock := &screen{}, newHandClock()
	m := NewMeter(MeterOptions{Out: out, Clock: clock})
	m.Update(walk(120_000, 0, 0))
	clock.tick(m, 1)
	m.Update(walk(240_000, 4_000, 1<<20))
	clock.tick(m, 1)
	m.Close()
	want := "redis-janitor: walk 1: 120,000/1,204,331 keys, 12,000/s, 0 evicted, 0 B freed, 1.72 GB left\n" +
		"redis-janitor: walk 1: 240,000/1,204,331 keys, 12,000/s, 4,000 evicted, 1.00 MB freed, 1.72 GB left\n"
	if got := out.text.String(); got != want || clock.every != 10*time.Second {
		t.Errorf("every %s\n%s, want\n%s", clock.every, got, want)
	}
}

func TestWhereLogsAreJSONProgressIsToo(t *testing.T) {
	out, clock := &screen{}, newHandClock()
	m := NewMeter(MeterOptions{Out: out, Clock: clock, Log: slog.New(slog.NewJSONHandler(out, nil))})
	m.Update(walk(120_000, 4_000, 1<<20))
	clock.tick(m, 2)
	m.Close()
	lines := strings.Split(strings.TrimSuffix(out.text.String(), "\n"), "\n")
	for _, line := range lines {
		var said map[string]any
		if err := json.Unmarshal([]byte(line), &said); err != nil || said["msg"] != "progress" || said["scanned"] != 120_000.0 || said["evicted"] != 4_000.0 || said["per_second"] == nil {
			t.Errorf("%v: %s", err, line)
		}
	}
	if len(lines) != 2 {
		t.Errorf("%d lines in two ticks", len(lines))
	}
}

func TestADryRunsProgressSpeaksOfWhatWouldGo(t *testing.T) {
	out, clock := &screen{}, newHandClock()
	m := NewMeter(MeterOptions{Out: out, DryRun: true, Clock: clock})
	m.Update(walk(120_000, 4_000, 1<<20))
	clock.tick(m, 1)
	m.Close()
	if got := out.text.String(); !strings.Contains(got, "4,000 would go, ~1.00 MB to free, ~1.72 GB left") || strings.Contains(got, "evicted") {
		t.Error(got)
	}
}

func TestARestoresProgressSpeaksOfWhatComesBack(t *testing.T) {
	for dry, want := range map[bool]string{false: "restore: 120/400 keys, 12/s, 90 restored, 1.00 MB of values\n", true: "90 would come back, 1.00 MB of values\n"} {
		out, clock := &screen{}, newHandClock()
		m := NewMeter(MeterOptions{Out: out, DryRun: dry, Clock: clock})
		m.Update(janitor.Progress{Node: "a", Phase: "restore", Keys: 400, Scanned: 120, Evicted: 90, FreedBytes: 1 << 20})
		clock.tick(m, 1)
		m.Close()
		if got := out.text.String(); !strings.HasSuffix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestNodesAreAddedUp(t *testing.T) {
	out, clock := &screen{}, newHandClock()
	m := NewMeter(MeterOptions{Out: out, Clock: clock})
	m.Update(janitor.Progress{Node: "a", Phase: "walk", Walk: 2, Keys: 100, Scanned: 50, Evicted: 5, FreedBytes: 4096, NeedBytes: 1024})
	m.Update(janitor.Progress{Node: "b", Phase: "walk", Walk: 1, Keys: 100, Scanned: 10, Evicted: 1, FreedBytes: 1024, NeedBytes: 3072})
	clock.tick(m, 1)
	m.Close()
	if got := out.text.String(); !strings.Contains(got, "walk 1 on 2 nodes: 60/200 keys, 6/s, 6 evicted, 5.00 KB freed, 2.00 KB left\n") {
		t.Error(got)
	}
}

func TestTheRateStartsAnewWithEachWalk(t *testing.T) {
	out, clock := &screen{}, newHandClock()
	m := NewMeter(MeterOptions{Out: out, Clock: clock})
	m.Update(walk(1_000_000, 0, 0))
	clock.tick(m, 1)
	second := walk(50_000, 0, 0)
	second.Walk = 2
	m.Update(second)
	clock.tick(m, 1)
	m.Close()
	if got := out.text.String(); !strings.Contains(got, "100,000/s") || !strings.Contains(got, " 5,000/s") {
		t.Error(got)
	}
}

func TestADisabledMeterIsSilent(t *testing.T) {
	out := &screen{}
	m := NewMeter(MeterOptions{Out: out, Disabled: true, Terminal: true, Clock: newHandClock()})
	m.Update(walk(1, 1, 1))
	m.Close()
	m.Close()
	if out.writes != 0 {
		t.Errorf("%q", out.text.String())
	}
}

func TestAHangingTerminalDoesNotHoldUpTheWork(t *testing.T) {
	out, clock := &screen{hang: make(chan struct{})}, newHandClock()
	m := NewMeter(MeterOptions{Out: out, Terminal: true, Clock: clock})
	m.Update(walk(0, 0, 0))
	clock.ticks <- clock.now // drawing hangs from here on
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := range int64(1000) {
				p := walk(i, 0, 0)
				p.Node = fmt.Sprint(w % 3)
				m.Update(p)
			}
		})
	}
	workers.Wait() // and would hang here if Update waited for it
	close(out.hang)
	m.Close()
}

func TestLogsOnTheSameStreamDoNotMixWithTheLine(t *testing.T) {
	out, clock := &screen{}, newHandClock()
	m := NewMeter(MeterOptions{Out: out, Terminal: true, Clock: clock})
	m.Update(walk(1, 0, 0))
	clock.tick(m, 1)
	if _, err := m.Write([]byte("a log line\n")); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if got := out.text.String(); !strings.Contains(got, "\r\x1b[Ka log line\n") {
		t.Errorf("%q", got)
	}
}

func TestTheLineNeverFillsTheTerminalsWidth(t *testing.T) {
	for width := 20; width <= 200; width++ {
		for _, p := range []janitor.Progress{walk(1, 0, 0), walk(602_165, 216_615, 923_417_968), {Phase: "survey"},
			{Phase: "walk", Walk: 12, Keys: 1 << 40, Scanned: 1 << 41, Evicted: 1 << 40, FreedBytes: 1 << 50, NeedBytes: 1 << 51}} {
			m := &Meter{opts: MeterOptions{Width: width}, glyphs: unicodeGlyphs}
			if got := lipgloss.Width(m.bar("walk 12", p, 123_456_789)); got >= width {
				t.Errorf("at %d: %d columns for %+v", width, got, p)
			}
		}
	}
}
