package health

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"redis-janitor/janitor/statefile"
)

const (
	schemaPrefix = "redis-janitor/check-state/"
	stateSchema  = schemaPrefix + "v1"
	// trendOver is how far back a trend looks: over several of the janitor's own evictions, whose
	// sawtooth is no trend.
	trendOver = 6 * time.Hour
	// pointEvery thins out the memory readings of checks that follow each other closely.
	pointEvery = 3 * time.Minute
	// knownNodes bounds the file, and forgetAfter ends what is known of a server that is gone.
	knownNodes  = 64
	forgetAfter = 30 * 24 * time.Hour
	// restartWindow is how long a restart stays news: longer than a monitor takes to ask again.
	restartWindow = time.Hour
)

// stateFile is the history as it lies on the disk.
type stateFile struct {
	Schema string    `json:"schema"`
	Nodes  []history `json:"nodes"`
}

// history is what is remembered of one server.
type history struct {
	Addr   string `json:"addr"`
	Last   sample `json:"last"`
	Source string `json:"source"` // of the points' memory
	// Points are readings of at most trendOver, oldest first.
	Points   []point     `json:"points"`
	Restarts []time.Time `json:"restarts"`
}

// point is one reading of memory.
type point struct {
	At   time.Time `json:"at"`
	Used int64     `json:"used"`
}

// observation is what a check saw of one server.
type observation struct {
	addr   string
	source string
	used   int64
	sample sample
}

// remember adds observations, at least one, to the history in a file, and returns for each what was known before it
// and with it. A broken history is set aside and begun anew, and corrupt says so; a file that holds anything else is
// left alone, which is an error: its name was given by mistake.
func remember(ctx context.Context, file string, seen []observation) (before, after []history, corrupt string, err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, nil, "", err
	}
	before, after = make([]history, len(seen)), make([]history, len(seen))
	err = statefile.Update(ctx, file, 0o600, func(old []byte) ([]byte, error) {
		var state stateFile
		if len(old) > 0 {
			if problem := state.parse(old); problem != nil {
				if !ours(old) {
					return nil, fmt.Errorf("%s holds something else than redis-janitor's history, so it stays", file)
				}
				aside := file + ".corrupt"
				if err := os.Rename(file, aside); err != nil {
					return nil, fmt.Errorf("%s holds no history (%w) and cannot be set aside: %w", file, problem, err)
				}
				corrupt = fmt.Sprintf("%s holds no history (%v): it is %s now, and the history begins anew", file, problem, aside)
			}
		}
		for i, o := range seen {
			at := slices.IndexFunc(state.Nodes, func(h history) bool { return h.Addr == o.addr })
			if at < 0 {
				state.Nodes = append(state.Nodes, history{Addr: o.addr})
				at = len(state.Nodes) - 1
			}
			before[i] = state.Nodes[at]
			state.Nodes[at] = before[i].with(o)
			after[i] = state.Nodes[at]
		}
		state.prune(seen[0].sample.At)
		return json.Marshal(state)
	})
	return before, after, corrupt, err
}

// ours tells a broken history from somebody else's file. Zeros alone are what some file systems leave of a file that was
// written right before the power went.
func ours(content []byte) bool {
	const begins = `{"schema":"` + schemaPrefix
	torn := strings.HasPrefix(begins, string(content[:min(len(content), len(begins))]))
	return torn || strings.HasPrefix(string(content), begins) || len(bytes.Trim(content, "\x00")) == 0
}

// parse reads a history strictly: half of one would make up trends.
func (s *stateFile) parse(data []byte) error {
	var read stateFile
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	if read.Schema != stateSchema {
		return fmt.Errorf("its schema is %q, not %s", read.Schema, stateSchema)
	}
	*s = read
	return nil
}

// with is the history after one more observation.
func (h history) with(o observation) history {
	now := o.sample
	next := history{Addr: o.addr, Last: now, Source: o.source}
	for _, at := range h.Restarts {
		if now.At.Sub(at) < restartWindow && !at.After(now.At) {
			next.Restarts = append(next.Restarts, at)
		}
	}
	what := same
	if h.known() && now.At.After(h.Last.At) {
		what = changed(h.Last, now)
	}
	switch what {
	case restarted:
		next.Restarts = append(next.Restarts, now.At.Add(-time.Duration(*now.UptimeS)*time.Second))
	case replaced:
		next.Restarts = append(next.Restarts, now.At)
	default:
		// Memory that was measured otherwise, or another server's, is no part of this one's trend.
		if h.Source == o.source {
			next.Points = slices.DeleteFunc(slices.Clone(h.Points), func(p point) bool { return !p.At.Before(now.At) })
		}
	}
	// The newest point gives way while it is close to the one before, so that it is always this check's.
	if n := len(next.Points); n >= 2 && next.Points[n-1].At.Sub(next.Points[n-2].At) < pointEvery {
		next.Points = next.Points[:n-1]
	}
	next.Points = append(next.Points, point{now.At, o.used})
	for len(next.Points) > 2 && now.At.Sub(next.Points[0].At) > trendOver {
		next.Points = next.Points[1:]
	}
	return next
}

// known tells whether there was a check before.
func (h history) known() bool { return !h.Last.At.IsZero() }

// prune keeps the servers that were seen last.
func (s *stateFile) prune(now time.Time) {
	s.Schema = stateSchema
	slices.SortStableFunc(s.Nodes, func(a, b history) int { return b.Last.At.Compare(a.Last.At) })
	s.Nodes = slices.DeleteFunc(s.Nodes, func(h history) bool { return now.Sub(h.Last.At) > forgetAfter })
	s.Nodes = s.Nodes[:min(len(s.Nodes), knownNodes)]
}
