package keyspace

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// PutBack is a key to be put back.
type PutBack struct {
	Key       string
	Value     string // as DUMP gave it
	ExpiresAt int64  // Unix time in milliseconds; 0: see TTL
	TTL       int64  // milliseconds from now on; 0 as well: no end
	Replace   bool   // take the place of a key that exists
}

// Comeback is what became of a key that was to be put back.
type Comeback byte

// The ways in which that ends.
const (
	NotSent   Comeback = iota // the run ended before
	CameBack                  // it is there again
	Exists                    // a key of this name is there, and stays
	Unfit                     // the server can't read the value
	MaybeBack                 // the reply was lost
)

// Restore puts keys back, in one pipeline: its time is the sum of its commands' for every other client, so
// callers bound it. The error is what the server refused first, or why it could not be asked.
func (n *Node) Restore(ctx context.Context, keys []PutBack) ([]Comeback, error) {
	pipe := n.data.Pipeline()
	for _, k := range keys {
		args := []any{"restore", k.Key, k.TTL, k.Value}
		if k.ExpiresAt > 0 {
			args[2] = k.ExpiresAt
			args = append(args, "absttl")
		}
		if k.Replace {
			args = append(args, "replace")
		}
		pipe.Do(ctx, args...)
	}
	cmds, _ := pipe.Exec(ctx) // the first error only; each is looked at below
	became := make([]Comeback, len(keys))
	var first error
	for i, cmd := range cmds {
		var ended bool
		if became[i], ended = comeback(cmd.Err()); ended && first == nil {
			first = fail(ctx, "restore", n.addr, cmd.Err())
		}
	}
	return became, first
}

// comeback reads one answer. What ends the run is anything but a key that exists and a value that is unfit.
func comeback(err error) (became Comeback, ended bool) {
	var answer redis.Error
	switch {
	case err == nil:
		return CameBack, false
	case errors.As(err, &answer):
		if strings.HasPrefix(err.Error(), "BUSYKEY") {
			return Exists, false
		}
		kind := classifyAnswer(err.Error())
		if kind == BadData {
			return Unfit, false
		}
		if kind == DumpVersion {
			return Unfit, true // which all the others are then, too
		}
		return NotSent, true
	}
	if _, sent := classify(err); sent {
		return MaybeBack, true
	}
	return NotSent, true
}

// Clock is how far the server's clock is ahead of this host's, whose time was now when INFO was read; 0 where the
// server doesn't tell its time (before 7.0).
func (i Info) Clock(now time.Time) time.Duration {
	micros, ok := i.Int("server_time_usec")
	if !ok {
		return 0
	}
	return time.UnixMicro(micros).Sub(now)
}
