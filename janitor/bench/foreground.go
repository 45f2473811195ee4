package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

// rate is how many requests a second the foreground client intends to make, whatever comes back.
const rate = 1000

// request is one of the foreground client's: when it was to be sent, in Unix nanoseconds, and how long after that its
// reply was there. A request that could not be sent in time because earlier ones hung has waited all the same.
type request struct {
	Intended int64
	Latency  int64
}

// runForeground makes requests at a fixed rate until stdin ends, and then writes what it saw to stdout.
func runForeground(ctx context.Context, args []string) error {
	// Nothing of the client's own may come between: no collection of garbage, no poller between kernel and reader.
	debug.SetGCPercent(-1)
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	seen, err := makeRequests(ctx, args[0], ended)
	if err != nil {
		return err
	}
	return binary.Write(os.Stdout, binary.LittleEndian, seen)
}

// makeRequests makes requests at a fixed rate until the end, and waits for the last reply.
func makeRequests(ctx context.Context, addr string, ended <-chan struct{}) ([]request, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fd := int(file.Fd()) // blocking from now on

	start := time.Now()
	total := make(chan int, 1)
	go sendRequests(fd, start, ended, total)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	seen := make([]request, 0, 1<<20)
	replies := bufio.NewReaderSize(blocking(fd), 64<<10)
	count := -1
	for i := 0; count < 0 || i < count; i++ {
		if err := skipReply(replies); err != nil {
			return nil, fmt.Errorf("read reply %d: %w", i, err)
		}
		intended := due(start, i)
		seen = append(seen, request{intended.UnixNano(), int64(time.Since(intended))})
		if count < 0 {
			select {
			case count = <-total:
			default:
			}
		}
	}
	return seen, nil
}

// due is when a request is to be sent.
func due(start time.Time, i int) time.Time { return start.Add(time.Duration(i) * time.Second / rate) }

// sendRequests sends what is due until the end. Before the last requests go out it says how many there are in all, so
// that their replies find a reader who knows when to stop.
func sendRequests(fd int, start time.Time, ended <-chan struct{}, total chan<- int) {
	runtime.LockOSThread()
	value := bytes.Repeat([]byte("v"), 200)
	var batch []byte
	for sent, last := 0, false; !last; {
		pause(time.Until(due(start, sent)))
		select {
		case <-ended:
			last = true
		default:
		}
		batch = batch[:0]
		for now := time.Now(); !due(start, sent).After(now); sent++ {
			batch = appendRequest(batch, uint64(sent), value)
		}
		if len(batch) == 0 {
			last = false // nothing would wake the reader
			continue
		}
		if last {
			total <- sent
		}
		for len(batch) > 0 {
			n, err := syscall.Write(fd, batch)
			if err != nil && !errors.Is(err, syscall.EINTR) {
				return // the reader meets the same end
			}
			batch = batch[max(n, 0):]
		}
	}
}

// appendRequest reads four keys for each that it writes.
func appendRequest(to []byte, i uint64, value []byte) []byte {
	h := mix(i)
	key := othersPrefix + strconv.FormatUint(h%othersKeys, 10)
	if (h>>40)%5 > 0 {
		return fmt.Appendf(to, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
	}
	return fmt.Appendf(to, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(value), value)
}

// blocking reads a descriptor without Go's poller.
type blocking int

func (fd blocking) Read(p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// skipReply reads a status or a string. Nothing else may come: a missing key or a refusal would make it a benchmark of
// something else.
func skipReply(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	switch line[0] {
	case '+':
		return nil
	case '$':
		n, err := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
		if err == nil && n >= 0 {
			_, err = r.Discard(n + 2)
			return err
		}
	}
	return fmt.Errorf("redis-server answered %q", line)
}

// load is a foreground client at work.
type load struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   bytes.Buffer
	err   bytes.Buffer
	ended bool
}

// warmUp is how long the foreground client works before anything is measured.
const warmUp = 300 * time.Millisecond

func startLoad(ctx context.Context, addr string) (*load, error) {
	l := &load{cmd: self(ctx, "foreground", addr)}
	stdin, err := l.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	l.stdin, l.cmd.Stdout, l.cmd.Stderr = stdin, &l.out, &l.err
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	time.Sleep(warmUp)
	return l, nil
}

// stop ends the load and returns the latencies of the requests that were to be sent in a span of time.
func (l *load) stop(from, until time.Time) ([]time.Duration, error) {
	l.ended = true
	l.stdin.Close()
	if err := l.cmd.Wait(); err != nil {
		return nil, fmt.Errorf("foreground client: %w: %s", err, &l.err)
	}
	all := make([]request, l.out.Len()/binary.Size(request{}))
	if err := binary.Read(&l.out, binary.LittleEndian, all); err != nil {
		return nil, err
	}
	return between(all, from, until), nil
}

// abandon ends the load where something else has failed.
func (l *load) abandon() {
	if !l.ended {
		l.stdin.Close()
		_ = l.cmd.Wait() // what it says does not matter any more
	}
}

// between picks the latencies of the requests that were to be sent in a span of time.
func between(all []request, from, until time.Time) []time.Duration {
	var picked []time.Duration
	for _, r := range all {
		if r.Intended >= from.UnixNano() && r.Intended < until.UnixNano() {
			picked = append(picked, time.Duration(r.Latency))
		}
	}
	return picked
}
