package janitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// paused keeps every janitor at home while somebody wants that, at the critical level too: whoever sets a
// pause may be copying the very data. Where it can't be told whether there is one, the run goes on.
func (j *job) paused(ctx context.Context) error {
	var answered atomic.Bool
	var held atomic.Pointer[pauseKey] // in a cluster one node has the key
	err := j.each(ctx, func(n *nodeJob) error {
		pause, set, err := n.node.Paused(ctx)
		switch kind := keyspace.KindOf(err); {
		case err == nil && set:
			held.Store(&pauseKey{n.node.Addr(), pause})
		case err == nil:
		case kind == keyspace.Moved:
			return nil // another node of the cluster has the key
		case kind == keyspace.NoPerm, kind == keyspace.NoCommand, kind == keyspace.ClusterDown:
			j.warn(n, "", "pause_unknown", "whether %s is set on %s cannot be asked (%v): going on as if it were not (docs/acl.md)",
				keyspace.PauseKey, n.node.Addr(), err)
		default:
			return err
		}
		answered.Store(true)
		return nil
	})
	if err != nil {
		return err
	}
	if key := held.Load(); key != nil {
		r := &PauseReport{From: "key", Where: key.addr}
		r.describe(key.Text)
		if key.Left > 0 {
			until := j.env.Now().Add(key.Left).UTC().Truncate(time.Second)
			r.Until = &until
		}
		return j.holdStill(r, key.Unread, fmt.Sprintf("DEL %s lets janitors work again", keyspace.PauseKey))
	}
	if !answered.Load() {
		j.warn(nil, "", "pause_unknown", "no node of the cluster that can be reached has the slot of %s: going on as if it were not set", keyspace.PauseKey)
	}
	r, unread, err := pauseFile(j.req.PauseFile)
	if err != nil {
		j.warn(nil, "", "pause_unknown", "whether there is a pause file cannot be told (%v): going on as if there were none", err)
	}
	if r == nil {
		return nil
	}
	return j.holdStill(r, unread, "janitors on this host work again when the file is removed")
}

// pauseKey is a pause, and the server on which it is set.
type pauseKey struct {
	addr string
	keyspace.Pause
}

// holdStill ends an execute, and has the other commands mention why it would end.
func (j *job) holdStill(r *PauseReport, unread error, release string) error {
	j.report.Pause = r
	message := "paused"
	switch {
	case r.Since != nil:
		message += fmt.Sprintf(" since %s (%s ago)", r.Since.Format(time.RFC3339), ttlpolicy.FormatDuration(max(j.env.Now().Sub(*r.Since), 0).Round(time.Minute)))
	case unread == nil:
		message += ", since when it does not say"
	}
	switch {
	case unread != nil:
		message += fmt.Sprintf(", by whom cannot be told (%v)", unread)
	case r.Says == "" && r.Since == nil:
		message += ", nor by whom"
	case r.Says == "":
		message += ", by whom it does not say"
	default:
		message += fmt.Sprintf(`: "%s"`, r.Says)
	}
	what := "file " + r.Where
	if r.From == "key" {
		what = fmt.Sprintf("key %s on %s", keyspace.PauseKey, r.Where)
	}
	message += " (" + what
	if r.Until != nil {
		message += ", until " + r.Until.Format(time.RFC3339)
	}
	message += ")"
	if j.acts() {
		return j.skip(Paused, message, "nothing was deleted; "+release)
	}
	j.warn(nil, "", "paused", "execute would skip this run: %s", message)
	return nil
}

// longestSaying bounds what is shown of a pause's text, in bytes.
const longestSaying = 200

// describe reads what whoever set a pause wrote: a time in RFC 3339, if it begins with one, and any words.
func (r *PauseReport) describe(text string) {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	first, rest, _ := strings.Cut(line, " ")
	if since, err := time.Parse(time.RFC3339, first); err == nil {
		since = since.UTC()
		r.Since, line = &since, rest
	}
	line = strings.TrimSpace(line)
	quoted := strconv.Quote(line[:min(len(line), longestSaying)])
	r.Says = quoted[1 : len(quoted)-1]
}

// pauseFile is this host's own switch; nil where there is none. Like a key's, its existence is enough:
// unread is why its text can't be told.
func pauseFile(path string) (r *PauseReport, unread, err error) {
	if path == "" {
		return nil, nil, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	r = &PauseReport{From: "file", Where: path}
	if info.Mode().IsRegular() { // reading anything else could wait for ever
		var text []byte
		text, unread = head(path)
		r.describe(string(text))
	}
	if r.Since == nil {
		since := info.ModTime().UTC().Truncate(time.Second)
		r.Since = &since
	}
	return r, unread, nil
}

func head(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, 4<<10))
}
