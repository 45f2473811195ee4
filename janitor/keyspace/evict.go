package keyspace

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// The janitor's own keys. They live in database 0 and expire by themselves.
const (
	LeaseKey    = "redis-janitor:lease"
	CooldownKey = "redis-janitor:cooldown"
)

// Batch is a number of keys of one family that are to go, with the conditions on which the server
// lets each of them go: they are checked again, atomically with the deletion.
type Batch struct {
	Keys       []string
	Persistent bool          // keys without TTL go
	MaxTTL     time.Duration // highest remaining TTL that goes; below zero: no key with a TTL goes
	MinIdle    time.Duration // also not read or written for so long

	MeasureEach int   // ask each so-many-th key for its size; 0: none
	MaxBytes    int64 // the batch ends early at so many bytes; 0: never
	AssumeBytes int64 // size of a key that is not measured

	LeaseToken string        // "" where there is no lease: then nothing fences a stalled janitor
	Cooldown   time.Duration // how long the cooldown mark lives; 0 or less: none is set
	Mark       string        // value of the cooldown mark
}

// Fate is what became of one key of a batch.
type Fate byte

// The fates, as the script writes them.
const (
	Gone      Fate = 'e' // evicted by this batch
	Refreshed Fate = 'r' // does not qualify any more, so it stays
	Vanished  Fate = 'v' // was gone already
	NotDone   Fate = 'f' // the server refused this deletion
	Deferred  Fate = 'd' // not tried: the batch had ended
	Uncertain Fate = 'u' // the reply was lost: may be gone
)

// Removal is what became of a batch.
type Removal struct {
	Fates    []Fate // one a key, in the order of Batch.Keys
	Measured int    // how many of the evicted keys were measured
	Bytes    int64  // their MEMORY USAGE
	// Refusal is why a deletion was refused half-way, nil where none was.
	Refusal error
}

// ErrFenced reports that the lease is not ours any more: nothing was deleted.
var ErrFenced = errors.New("another janitor holds the lease now")

// loadedScripts remembers which scripts the server has been given. The zero value is ready.
type loadedScripts struct {
	mu     sync.Mutex
	loaded map[string]bool
}

// run runs a script by its digest, and gives it to the server first where it has not got it: when
// it is new there, after SCRIPT FLUSH, or after a failover (SCRIPT LOAD is not replicated).
func (n *Node) run(ctx context.Context, client *redis.Client, s script, keys []string, args ...any) (any, error) {
	for attempt := 0; ; attempt++ {
		if err := n.load(ctx, client, s); err != nil {
			return nil, err
		}
		answer, err := client.EvalSha(ctx, s.digest, keys, args...).Result()
		if err == nil {
			return answer, nil
		}
		wrapped := fail("run a script", n.addr, err)
		switch KindOf(wrapped) {
		case NoScript:
			n.loaded.forget(s.digest)
			if attempt < 2 {
				continue
			}
		case NoCommand:
			return nil, n.noEval(err)
		}
		return nil, wrapped
	}
}

func (n *Node) load(ctx context.Context, client *redis.Client, s script) error {
	n.loaded.mu.Lock()
	defer n.loaded.mu.Unlock()
	if n.loaded.loaded[s.digest] {
		return nil
	}
	if err := client.ScriptLoad(ctx, s.body).Err(); err != nil {
		wrapped := fail("load a script", n.addr, err)
		if KindOf(wrapped) == NoCommand {
			return n.noEval(err)
		}
		return wrapped
	}
	if n.loaded.loaded == nil {
		n.loaded.loaded = map[string]bool{}
	}
	n.loaded.loaded[s.digest] = true
	return nil
}

func (l *loadedScripts) forget(digest string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.loaded, digest)
}

func (n *Node) noEval(err error) error {
	return &Error{Op: "run a script", Addr: n.addr, Kind: NoEval, Hint: hint(NoEval), Err: err}
}

// CanEvict loads the eviction script, so that a server without scripting is known before anything
// is deleted.
func (n *Node) CanEvict(ctx context.Context) error {
	return n.load(ctx, n.data, newScript(evictLua))
}

// Evict deletes those keys of a batch that still qualify. Where the reply is lost the keys'
// fates are Uncertain and the error says why; any other error means that nothing was deleted.
func (n *Node) Evict(ctx context.Context, b Batch) (Removal, error) {
	keys := make([]string, 0, len(b.Keys)+2)
	keys = append(append(keys, b.Keys...), LeaseKey, CooldownKey)
	maxTTL := int64(-1)
	if b.MaxTTL >= 0 {
		maxTTL = b.MaxTTL.Milliseconds()
	}
	answer, err := n.run(ctx, n.data, newScript(evictLua), keys,
		len(b.Keys), n.db, b.Persistent, maxTTL, seconds(b.MinIdle), b.MeasureEach, b.MaxBytes, b.AssumeBytes,
		b.LeaseToken, max(b.Cooldown, 0).Milliseconds(), b.Mark)
	if err != nil {
		fate := Deferred
		var failure *Error
		if errors.As(err, &failure) && failure.Sent {
			fate = Uncertain
		}
		return Removal{Fates: repeat(fate, len(b.Keys))}, err
	}
	return n.removal(answer, len(b.Keys))
}

// seconds rounds up: OBJECT IDLETIME tells whole seconds, and a key must be idle for the whole time.
func seconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}

func repeat(f Fate, n int) []Fate {
	fates := make([]Fate, n)
	for i := range fates {
		fates[i] = f
	}
	return fates
}

func (n *Node) removal(answer any, count int) (Removal, error) {
	odd := func() (Removal, error) {
		return Removal{Fates: repeat(Uncertain, count)}, &Error{Op: "evict", Addr: n.addr, Kind: Other, Sent: true,
			Err: fmt.Errorf("the eviction script answered something unexpected: %.80v", answer)}
	}
	fields, ok := answer.([]any)
	if !ok || len(fields) == 0 {
		return odd()
	}
	if fields[0] == "fenced" {
		return Removal{Fates: repeat(Deferred, count)}, fmt.Errorf("evict on %s: %w", n.addr, ErrFenced)
	}
	if len(fields) != 5 {
		return odd()
	}
	fates, ok1 := fields[1].(string)
	measured, ok2 := fields[2].(int64)
	bytes, ok3 := fields[3].(int64)
	refusal, ok4 := fields[4].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(fates) != count {
		return odd()
	}
	r := Removal{Fates: []Fate(fates), Measured: int(measured), Bytes: bytes}
	if refusal != "" {
		kind := classifyAnswer(refusal)
		r.Refusal = &Error{Op: "evict", Addr: n.addr, Kind: kind, Hint: hint(kind), Err: errors.New(refusal)}
	}
	return r, nil
}

// Holder describes who holds the lease.
type Holder struct {
	Name  string // host and process
	Since string // RFC 3339
	Left  time.Duration
}

// TakeLease takes the lease for a token, or renews it. ours is false where another janitor holds
// it; the holder says who. With renew the lease is only kept, never taken: a lease that has run
// out in between is not ours any more.
func (n *Node) TakeLease(ctx context.Context, token, name, since string, lasts time.Duration, renew bool) (holder Holder, ours bool, err error) {
	answer, err := n.run(ctx, n.own, newScript(leaseLua), []string{LeaseKey}, token, lasts.Milliseconds(), name, since, renew)
	if err != nil {
		return Holder{}, false, err
	}
	fields, ok := answer.([]any)
	if !ok || len(fields) != 4 {
		return Holder{}, false, &Error{Op: "take the lease", Addr: n.addr, Kind: Other,
			Err: fmt.Errorf("the lease script answered something unexpected: %.80v", answer)}
	}
	holder.Name, _ = fields[1].(string)
	holder.Since, _ = fields[2].(string)
	if ms, ok := fields[3].(int64); ok && ms > 0 {
		holder.Left = time.Duration(ms) * time.Millisecond
	}
	return holder, fields[0] == "ours", nil
}

// ReleaseLease gives the lease back, if the token still holds it.
func (n *Node) ReleaseLease(ctx context.Context, token string) error {
	_, err := n.run(ctx, n.own, newScript(releaseLua), []string{LeaseKey}, token)
	return err
}

// CooldownLeft is how long the node's cooldown still lasts, 0 where none is running.
func (n *Node) CooldownLeft(ctx context.Context) (time.Duration, error) {
	ms, err := n.own.Do(ctx, "pttl", CooldownKey).Int64()
	if err != nil {
		return 0, fail("read the cooldown", n.addr, err)
	}
	return max(time.Duration(ms)*time.Millisecond, 0), nil
}

// MarkFormat writes a time as the cooldown mark and the lease carry it.
func MarkFormat(t time.Time, by string) string {
	return strconv.FormatInt(t.UnixMilli(), 10) + " " + by
}
