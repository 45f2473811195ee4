package view

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/lipgloss"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// How often progress is shown: as a line that is redrawn, or as lines in a log.
const (
	redrawEvery = 100 * time.Millisecond
	logEvery    = 10 * time.Second
)

// Clock tells the time, and when to draw.
type Clock interface {
	Now() time.Time
	// Ticks delivers the time every d, until stop is called.
	Ticks(d time.Duration) (ticks <-chan time.Time, stop func())
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now is time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// Ticks is a time.Ticker's.
func (SystemClock) Ticks(d time.Duration) (ticks <-chan time.Time, stop func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// MeterOptions says where and how progress is shown.
type MeterOptions struct {
	Out      io.Writer // stderr: results go elsewhere
	Disabled bool      // show nothing: --no-progress, --quiet
	Terminal bool      // redraw one line, rather than add one now and then
	Width    int       // in columns; 0 is 80
	Unicode  bool
	DryRun   bool // nothing is deleted, and the words say so
	Clock    Clock
	// Log gets progress off a terminal, where logs are not lines of text; nil: they are.
	Log *slog.Logger
}

// Meter shows how far a run is. Whoever works only leaves the latest numbers behind (Update); drawing
// has its own goroutine and its own time, so that a slow terminal slows nothing down.
type Meter struct {
	opts   MeterOptions
	glyphs glyphs
	latest sync.Map // node → janitor.Progress

	drawing sync.Mutex // held while writing to Out
	drawn   bool       // a line is on the terminal
	held    bool       // somebody else has the terminal

	closing sync.Once
	stop    chan struct{}
	done    chan struct{}

	// Only the drawing goroutine uses these: the phase in hand, since when, and when it last drew.
	phase       string
	since, last time.Time
}

// NewMeter starts a meter; Close ends it.
func NewMeter(opts MeterOptions) *Meter {
	if opts.Width <= 0 {
		opts.Width = 80
	}
	m := &Meter{opts: opts, glyphs: asciiGlyphs, stop: make(chan struct{}), done: make(chan struct{})}
	if opts.Unicode {
		m.glyphs = unicodeGlyphs
	}
	if opts.Disabled {
		close(m.done)
		return m
	}
	every := logEvery
	if opts.Terminal {
		every = redrawEvery
	}
	m.last = opts.Clock.Now()
	ticks, stop := opts.Clock.Ticks(every)
	go func() {
		defer close(m.done)
		defer stop()
		for {
			select {
			case now := <-ticks:
				m.draw(now)
			case <-m.stop:
				return
			}
		}
	}()
	return m
}

// Update leaves a node's latest numbers for the next draw. It may be called from many goroutines, as
// often as one likes.
func (m *Meter) Update(p janitor.Progress) {
	if !m.opts.Disabled {
		m.latest.Store(p.Node, p)
	}
}

// Close stops drawing and clears the line.
func (m *Meter) Close() {
	m.closing.Do(func() { close(m.stop) })
	<-m.done
	m.drawing.Lock()
	defer m.drawing.Unlock()
	m.clear()
}

// Write passes on what others have to say on the same stream, such as logs, and takes the line out of
// its way; the next draw brings it back.
func (m *Meter) Write(text []byte) (int, error) {
	m.drawing.Lock()
	defer m.drawing.Unlock()
	m.clear()
	return m.opts.Out.Write(text)
}

// Hold leaves the terminal to a question until resume is called.
func (m *Meter) Hold() (resume func()) {
	hold := func(held bool) {
		m.drawing.Lock()
		defer m.drawing.Unlock()
		m.clear()
		m.held = held
	}
	hold(true)
	return func() { hold(false) }
}

func (m *Meter) clear() {
	if m.drawn {
		m.show("\r\x1b[K")
		m.drawn = false
	}
}

// show writes without looking at the error: a run must not end because nobody can see its progress.
func (m *Meter) show(text string) { _, _ = io.WriteString(m.opts.Out, text) }

func (m *Meter) draw(now time.Time) {
	sum, nodes := m.sum()
	if nodes == 0 {
		m.last = now
		return
	}
	phase := sum.Phase
	if sum.Walk > 0 {
		phase = fmt.Sprintf("%s %d", phase, sum.Walk)
	}
	if m.phase != phase { // which began, at zero keys, at some time after the last draw
		m.phase, m.since = phase, m.last
	}
	m.last = now
	rate := int64(0)
	if elapsed := now.Sub(m.since); elapsed > 0 {
		rate = int64(float64(sum.Scanned) / elapsed.Seconds())
	}
	if nodes > 1 {
		phase += fmt.Sprintf(" on %d nodes", nodes)
	}
	m.drawing.Lock()
	defer m.drawing.Unlock()
	if m.held {
		return
	}
	if m.opts.Terminal {
		m.show("\r" + m.bar(phase, sum, rate) + "\x1b[K")
		m.drawn = true
		return
	}
	if m.opts.Log != nil {
		m.opts.Log.Info("progress", "phase", sum.Phase, "walk", sum.Walk, "nodes", nodes, "keys", sum.Keys, "scanned", sum.Scanned, "per_second", rate,
			"evicted", sum.Evicted, "freed_bytes", sum.FreedBytes, "left_bytes", max(sum.NeedBytes-sum.FreedBytes, 0), "dry_run", m.opts.DryRun)
		return
	}
	m.show("redis-janitor: " + phase + ": " + strings.Join(m.facts(sum, rate, false), ", ") + "\n")
}

// sum adds up the nodes. The phase is that of the node that is furthest behind.
func (m *Meter) sum() (sum janitor.Progress, nodes int) {
	m.latest.Range(func(_, value any) bool {
		p := value.(janitor.Progress)
		nodes++
		if nodes == 1 || p.Walk < sum.Walk {
			sum.Phase, sum.Walk = clean(p.Phase, m.opts.Unicode), p.Walk
		}
		sum.Keys += p.Keys
		sum.Scanned += p.Scanned
		sum.Evicted += p.Evicted
		sum.FreedBytes += p.FreedBytes
		// Node by node: what one has freed beyond its need is no help to another.
		sum.NeedBytes += max(p.NeedBytes, p.FreedBytes)
		return true
	})
	return sum, nodes
}

// facts says what is done, at what rate, and what is left; in short where there is little room.
func (m *Meter) facts(sum janitor.Progress, rate int64, short bool) []string {
	number, size := count, ttlpolicy.FormatSize
	if short {
		number, size = shortCount, shortSize
	}
	evicted, freed, mark := " evicted", " freed", ""
	switch {
	case sum.Phase == "restore" && m.opts.DryRun:
		evicted, freed = " would come back", " of values"
	case sum.Phase == "restore":
		evicted, freed = " restored", " of values"
	case m.opts.DryRun:
		evicted, freed, mark = " would go", " to free", "~"
	case short:
		evicted = " gone"
	}
	seen, bytes := number(sum.Scanned)+"/"+number(sum.Keys), mark+size(sum.FreedBytes)
	facts := []string{seen + " keys", number(rate) + "/s", number(sum.Evicted) + evicted, bytes + freed}
	if short {
		facts = []string{seen, number(rate) + "/s", number(sum.Evicted) + evicted + " (" + bytes + ")"}
	}
	if left := sum.NeedBytes - sum.FreedBytes; left > 0 {
		facts = append(facts, mark+size(left)+" left")
	}
	return facts
}

// bar is the terminal's line: one column short of the width, since many terminals wrap in the last
// one. Where there is no room, figures are rounded first, then the bar goes, then the last facts.
func (m *Meter) bar(phase string, sum janitor.Progress, rate int64) string {
	// In steps, so that the bar doesn't twitch with every digit behind it.
	const smallest, largest, step = 8, 32, 4
	room := m.opts.Width - 1
	facts := m.facts(sum, rate, false)
	text := strings.Join(facts, ", ")
	if lipgloss.Width(phase+text)+smallest+4 > room {
		facts = m.facts(sum, rate, true)
		text = strings.Join(facts, ", ")
	}
	if cells := min(room-lipgloss.Width(phase+text)-4, largest); cells >= smallest && sum.Keys > 0 {
		cells -= cells % step
		full := int(min(sum.Scanned, sum.Keys) * int64(cells) / sum.Keys)
		return phase + " [" + strings.Repeat(m.glyphs.stays, full) + strings.Repeat(m.glyphs.free, cells-full) + "] " + text
	}
	for len(facts) > 0 && lipgloss.Width(phase)+1+lipgloss.Width(text) > room {
		facts = facts[:len(facts)-1]
		text = strings.Join(facts, ", ")
	}
	return phase + " " + text
}
