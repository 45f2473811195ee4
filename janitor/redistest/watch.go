package redistest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// CommandStats tells how often the server has run each command since ResetStats, subcommands as "client|setname". It
// counts what Monitor cannot see (CONFIG, DEBUG, REPLICAOF, CLIENT LIST: the administrative ones); the INFO that asks counts only from the next call on.
func (s *Server) CommandStats(ctx context.Context) map[string]int64 {
	s.tb.Helper()
	answer, err := s.ask(ctx, "INFO", "commandstats")
	if err != nil {
		s.tb.Fatalf("reading command counts of %s: %v", s.Addr, err)
	}
	calls := map[string]int64{}
	for line := range strings.Lines(answer) {
		line, ours := strings.CutPrefix(line, "cmdstat_")
		if !ours {
			continue
		}
		name, fields, _ := strings.Cut(line, ":calls=")
		count, _, _ := strings.Cut(fields, ",")
		if calls[name], err = strconv.ParseInt(count, 10, 64); err != nil {
			s.tb.Fatalf("reading command counts of %s: %q: %v", s.Addr, line, err)
		}
	}
	return calls
}

// ResetStats starts the counts of CommandStats anew; itself it counts as one "config|resetstat".
func (s *Server) ResetStats() {
	s.tb.Helper()
	if _, err := s.ask(context.Background(), "CONFIG", "RESETSTAT"); err != nil {
		s.tb.Fatalf("resetting the counts of %s: %v", s.Addr, err)
	}
}

// Call is one command as the server received it.
type Call struct {
	Name string   // upper-cased, without a subcommand
	Args []string // as sent
	DB   int
	Lua  bool // called by a script
}

// Monitor sees the commands of one server as they are run.
type Monitor struct {
	s    *Server
	conn net.Conn
	tb   testing.TB

	mu      sync.Mutex
	calls   []Call
	marks   int           // how many of our own marks were sent
	seen    chan string   // our own marks, as they come in
	stopped chan struct{} // closed when no more will come
	err     error         // why, once stopped is closed
}

// markPrefix begins the ECHO by which Calls knows that it has seen everything before it.
const markPrefix = "redistest-mark-"

// Monitor starts to record. It is stopped when the test is over.
func (s *Server) Monitor(t testing.TB) *Monitor {
	t.Helper()
	c, err := s.dial(context.Background())
	if err == nil {
		_, err = c.do("MONITOR")
	}
	if err != nil {
		t.Fatalf("monitoring %s: %v", s.Addr, err)
	}
	m := &Monitor{s: s, conn: c, tb: t, seen: make(chan string, 1), stopped: make(chan struct{})}
	go m.record(c.r)
	t.Cleanup(m.Stop)
	return m
}

func (m *Monitor) record(r *bufio.Reader) {
	defer close(m.stopped)
	for {
		line, err := readLine(r)
		if err != nil {
			m.err = err
			return
		}
		call, err := parseCall(line)
		if err != nil {
			m.err = err
			return
		}
		if call.Name == "ECHO" && strings.HasPrefix(call.Args[0], markPrefix) {
			m.seen <- call.Args[0]
			continue
		}
		m.mu.Lock()
		m.calls = append(m.calls, call)
		m.mu.Unlock()
	}
}

// parseCall reads a line such as `+1339518083.107412 [0 127.0.0.1:60866] "set" "key" "\x00"`. Its quoting is a subset of Go's.
func parseCall(line string) (Call, error) {
	_, rest, _ := strings.Cut(line, " [")
	origin, rest, ok := strings.Cut(rest, "] ")
	db, client, _ := strings.Cut(origin, " ")
	n, err := strconv.Atoi(db)
	if !ok || err != nil {
		return Call{}, fmt.Errorf("not a line of MONITOR: %q", line)
	}
	call := Call{DB: n, Lua: client == "lua"}
	for rest != "" {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return Call{}, fmt.Errorf("not a line of MONITOR: %q: %w", line, err)
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return Call{}, fmt.Errorf("not a line of MONITOR: %q: %w", line, err)
		}
		call.Args = append(call.Args, word)
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	if len(call.Args) == 0 {
		return Call{}, fmt.Errorf("not a line of MONITOR: %q", line)
	}
	call.Name, call.Args = strings.ToUpper(call.Args[0]), call.Args[1:]
	return call, nil
}

// Calls are the commands that had been answered before this call, without those MONITOR hides. After Stop, or once the
// server is gone, it is what had come in by then.
func (m *Monitor) Calls() []Call {
	m.tb.Helper()
	select {
	case <-m.stopped:
	default:
		m.catchUp()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

// catchUp sends a mark and waits until it comes by: the server feeds its monitors in the order of execution.
func (m *Monitor) catchUp() {
	m.tb.Helper()
	m.marks++
	mark := markPrefix + strconv.Itoa(m.marks)
	if _, err := m.s.ask(context.Background(), "ECHO", mark); err != nil {
		m.tb.Fatalf("monitoring %s: %v", m.s.Addr, err)
	}
	for {
		select {
		case got := <-m.seen:
			if got == mark {
				return
			}
		case <-m.stopped:
			m.tb.Fatalf("monitoring %s: it ended: %v", m.s.Addr, m.err)
		case <-time.After(readyWithin):
			m.tb.Fatalf("monitoring %s: nothing came within %s", m.s.Addr, readyWithin)
		}
	}
}

// Commands are the names of Calls, upper-cased.
func (m *Monitor) Commands() []string {
	m.tb.Helper()
	calls := m.Calls()
	names := make([]string, len(calls))
	for i, call := range calls {
		names[i] = call.Name
	}
	return names
}

// Stop ends the recording.
func (m *Monitor) Stop() {
	m.conn.Close()
	<-m.stopped
}
