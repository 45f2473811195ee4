package health

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	chunk = 64 << 10
	// lineHead is as much of a line as is kept: its time and what it begins with.
	lineHead = 512
	// clockSlack forgives workers that write a little out of order, and clocks that differ a little.
	clockSlack = time.Minute
	// unstampedLimit is how much of a log may go by without a time before it is none of gunicorn's.
	unstampedLimit = 1 << 20
	// rotations bounds how many older files are asked for.
	rotations = 100
)

// errUnstamped reports a log whose lines don't say when they were written.
var errUnstamped = errors.New("no line begins with a time as gunicorn writes it, [2026-11-23 19:14:02 +0000]: give the file of gunicorn's --error-logfile")

// bootLine is what gunicorn writes for every worker that it starts, behind the time (Arbiter.spawn_worker,
// at level info). It is anchored, so that a message that quotes it does not count.
var bootLine = regexp.MustCompile(`^ \[\d+\] \[[A-Z]+\] Booting worker with pid\b`)

// bootCount counts the boots that log lines tell of, from one moment to another.
type bootCount struct {
	from, until time.Time
	boots       int
	text        bool // there was a line
	stamped     bool // there was a line with a time
	older       bool // there was a line from before, so what lies further back is older still
	silent      int  // bytes since the last line with a time
}

// countBoots counts the workers that gunicorn booted from one moment to another. It reads the log from
// its end, and the rotated ones (.1 or .1.gz, .2 and so on) only as far back as it must, in bounded memory.
func countBoots(ctx context.Context, log string, from, until time.Time) (int, error) {
	count := &bootCount{from: from, until: until}
	var seen []fs.FileInfo
	for i := range rotations {
		name, info, err := rotated(log, i)
		if errors.Is(err, fs.ErrNotExist) {
			if i == 0 {
				continue // it may be rotated in this very moment
			}
			break
		}
		if err != nil {
			return 0, err
		}
		if slices.ContainsFunc(seen, func(other fs.FileInfo) bool { return os.SameFile(info, other) }) {
			continue // it was rotated while it was read
		}
		seen = append(seen, info)
		if info.ModTime().Before(from) {
			break
		}
		if err := count.file(ctx, name); err != nil {
			return 0, fmt.Errorf("read worker log %s: %w", name, err)
		}
		if count.older {
			break
		}
	}
	switch {
	case len(seen) == 0:
		return 0, fmt.Errorf("read worker log %s: %w", log, fs.ErrNotExist)
	case count.text && !count.stamped:
		return 0, fmt.Errorf("read worker log %s: %w", log, errUnstamped)
	}
	return count.boots, nil
}

// rotated finds the log itself (0) or what became of it after so many rotations.
func rotated(log string, rotation int) (string, fs.FileInfo, error) {
	names := []string{log}
	if rotation > 0 {
		names = []string{log + "." + strconv.Itoa(rotation), log + "." + strconv.Itoa(rotation) + ".gz"}
	}
	for _, name := range names {
		info, err := os.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return "", nil, fmt.Errorf("read worker log: %w", err)
		case !info.Mode().IsRegular():
			return "", nil, fmt.Errorf("worker log %s is no regular file", name)
		}
		return name, info, nil
	}
	return "", nil, fs.ErrNotExist
}

func (c *bootCount) file(ctx context.Context, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if strings.HasSuffix(name, ".gz") {
		return c.compressed(ctx, file)
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	return c.backwards(ctx, file, size)
}

// backwards reads lines from the last to the first, until one is older than what is asked for.
func (c *bootCount) backwards(ctx context.Context, file io.ReaderAt, size int64) error {
	buffer := make([]byte, chunk)
	var rest []byte // the head of what follows the chunk, up to its line's end
	for end := size; end > 0 && !c.older; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		start := max(0, end-chunk)
		n, err := file.ReadAt(buffer[:end-start], start)
		if err != nil && !errors.Is(err, io.EOF) { // an end too early: the log was truncated meanwhile
			return err
		}
		if c.silent += n; c.silent > unstampedLimit {
			return errUnstamped
		}
		data := buffer[:n]
		for at := bytes.LastIndexByte(data, '\n'); at >= 0 && !c.older; at = bytes.LastIndexByte(data, '\n') {
			c.line(head(data[at+1:], rest))
			data, rest = data[:at], nil
		}
		rest = bytes.Clone(head(data, rest))
		end = start
	}
	c.line(rest)
	return nil
}

// head is the first lineHead bytes of a and b in a row.
func head(a, b []byte) []byte {
	if len(b) > 0 && len(a) < lineHead {
		a = slices.Concat(a, b)
	}
	return a[:min(len(a), lineHead)]
}

// compressed reads from the first line to the last: there is no other way into a gzip file.
func (c *bootCount) compressed(ctx context.Context, file io.Reader) error {
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	lines := bufio.NewReaderSize(unzipped, chunk)
	for goesOn := false; ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, err := lines.ReadSlice('\n')
		if c.silent += len(line); c.silent > unstampedLimit {
			return errUnstamped
		}
		if !goesOn {
			c.line(line)
		}
		goesOn = errors.Is(err, bufio.ErrBufferFull)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !goesOn:
			return err
		}
	}
}

// line takes the next line into the count. Lines need not come in any order.
func (c *bootCount) line(line []byte) {
	c.text = c.text || len(bytes.TrimSpace(line)) > 0
	at, rest, ok := stamp(line)
	if !ok {
		return
	}
	c.stamped, c.silent = true, 0
	c.older = c.older || at.Before(c.from.Add(-clockSlack))
	if !at.Before(c.from) && !at.After(c.until.Add(clockSlack)) && bytes.Contains(rest, []byte("Booting")) && bootLine.Match(rest) {
		c.boots++
	}
}

// stamp reads the time with which gunicorn begins a line (glogging.Logger.datefmt).
func stamp(line []byte) (at time.Time, rest []byte, ok bool) {
	const layout = "[2006-01-02 15:04:05 -0700]"
	if len(line) < len(layout) || line[0] != '[' || line[len(layout)-1] != ']' {
		return at, nil, false
	}
	at, err := time.Parse(layout, string(line[:len(layout)]))
	return at, line[len(layout):], err == nil
}
