// Package capsule is the file that an eviction fills with what it takes, to put it back from. It knows the
// format and nothing else: not Redis, not policies, not the run.
//
// A capsule is a row of frames: a header, then for each batch of keys a block with their values, on the
// disk before the batch is deleted, and after the deletion what became of each key; at last a footer. Each
// frame has its own length and checksum, so that a file which was cut short or damaged gives all of its
// whole blocks and can name what is missing.
package capsule

import (
	"errors"
	"fmt"
	"time"
)

// Version is the format's. A reader refuses any other.
const Version = 1

// Header tells where the keys come from. It is the first frame, as JSON.
type Header struct {
	Version int       `json:"version"`
	MadeAt  time.Time `json:"made_at"`
	By      string    `json:"by"`     // the program and its version
	Addr    string    `json:"addr"`   // of the server, or of a cluster's first node
	RunID   string    `json:"run_id"` // of that server
	Server  string    `json:"server"` // software and version, as in "redis 7.0.15": DUMP's format depends on it
	DB      int       `json:"db"`
	Policy  string    `json:"policy"`
	SHA256  string    `json:"policy_sha256"`
}

// Footer tells that the run came to its end, and to what. It is the last frame, as JSON.
type Footer struct {
	EndedAt time.Time `json:"ended_at"`
	Outcome string    `json:"outcome"`
	Reason  string    `json:"reason"`
	Blocks  int64     `json:"blocks"`
	Keys    int64     `json:"keys"`
}

// Block holds the keys of one batch: all of one family, on one node.
type Block struct {
	Addr    string
	DB      int
	Family  string
	Entries []Entry
}

// Entry is one key as it was when it was captured.
type Entry struct {
	Key       string
	Type      string // Redis's word: string, hash, list, set, zset, stream, …
	ExpiresAt int64  // Unix time in milliseconds; -1: never
	TTL       int64  // milliseconds that were left then; -1: no end
	Value     string // as DUMP gave it
}

// Fate is what became of a key after it was captured: one byte a key.
type Fate byte

// The fates that a reader must tell apart. Any other means that the key stayed, or that somebody else
// deleted it: it is not for us to put back.
const (
	Unknown   Fate = 0   // the run ended before it could be written down
	Evicted   Fate = 'e' // by the run that wrote this capsule
	Uncertain Fate = 'u' // the server's answer was lost
)

// Restorable is whether a key of this fate may be gone by our doing.
func (f Fate) Restorable() bool { return f == Unknown || f == Evicted || f == Uncertain }

// ErrFull reports that a block would grow the capsule beyond its limit. It was not written.
var ErrFull = errors.New("the capsule is full")

// ErrNotCapsule reports a file in which not one frame could be read.
var ErrNotCapsule = errors.New("this is no capsule, or nothing of it can be read")

// WriteError reports that a capsule could not be written. What it was asked to hold last is not safe.
type WriteError struct {
	Path string
	Err  error
}

func (e *WriteError) Error() string { return fmt.Sprintf("write the capsule %s: %v", e.Path, e.Err) }

func (e *WriteError) Unwrap() error { return e.Err }
