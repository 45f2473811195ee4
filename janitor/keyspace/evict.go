package keyspace

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"redis-janitor/ttlpolicy"
)

// Batch is a number of keys of one family that are to go, with the conditions on which the server
// lets each of them go: they are checked again, atomically with the deletion.
type Batch struct {
	Keys       []string
	Persistent bool          // keys without TTL go
	MaxTTL     time.Duration // highest remaining TTL that goes; below zero: no key with a TTL goes
	MinIdle    time.Duration // also not read or written for so long
	// Lifetime is the family's where the keys have not been judged before: their fates then tell why
	// each one stays. Zero where they have been: one that doesn't qualify any more was refreshed.
	Lifetime time.Duration

	MeasureEach int   // ask each so-many-th key for its size; 0: none
	MaxBytes    int64 // the batch ends early at so many bytes; 0: never
	AssumeBytes int64 // size of a key that is not measured
	Uneven      bool  // single values may be huge
	Tell        bool  // have the removal tell each key's TTL, and the sizes that were asked for

	// Stored binds each key to what a capsule holds of it: one that is not as it was then stays. nil: bound to nothing.
	Stored []Captured

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
	KeptMoved Fate = 'm' // another server of the cluster has it now, or will have

	// The fates of keys that had not been judged before.
	KeptNoTTL       Fate = 'n' // has no TTL
	KeptOver        Fate = 'l' // its TTL lies above the lifetime
	KeptFresh       Fate = 'o' // too young
	KeptNotIdle     Fate = 'i' // was used a short while ago
	KeptIdleUnknown Fate = 'k' // when it was used can't be told

	KeptTooLarge Fate = 'b' // too large for a capsule
)

// Removal is what became of a batch.
type Removal struct {
	Fates    []Fate // one a key, in the order of Batch.Keys
	Measured int    // how many of the evicted keys were measured
	Bytes    int64  // their MEMORY USAGE
	// Refusal is why a deletion was refused half-way, nil where none was.
	Refusal error
	// Unmarked is why the cooldown's mark could not be set, "" where it was or none was asked for.
	Unmarked string
	// TTLs and Sizes are what PTTL and MEMORY USAGE said of each key, Untold where they were not asked or
	// had no answer; nil unless the batch says Tell.
	TTLs, Sizes []int64
}

// Untold stands for a TTL or a size that is not known.
const Untold = -3

// Told is what PTTL said of a key of the batch, in ms, and MEMORY USAGE, in bytes.
func (r Removal) Told(i int) (ttl, bytes int64) {
	ttl, bytes = Untold, Untold
	if i < len(r.TTLs) {
		ttl = r.TTLs[i]
	}
	if i < len(r.Sizes) {
		bytes = r.Sizes[i]
	}
	return ttl, bytes
}

// ErrFenced reports that the lease is not ours any more: nothing was deleted.
var ErrFenced = errors.New("another janitor holds the lease now")

// CanEvict loads the eviction script, so that a server without scripting is known before anything
// is deleted.
func (n *Node) CanEvict(ctx context.Context) error {
	if err := n.load(ctx, "load the eviction script", n.data, evictScript); err != nil || !n.clustered {
		return err
	}
	return n.load(ctx, "load the cooldown script", n.data, markScript)
}

// Evict deletes those keys of a batch that still qualify. Where the reply is lost the keys'
// fates are Uncertain and the error says why; any other error means that nothing was deleted.
func (n *Node) Evict(ctx context.Context, b Batch) (Removal, error) {
	if len(b.Keys) == 0 {
		return Removal{}, nil
	}
	if n.clustered {
		return n.evictBySlot(ctx, b)
	}
	// Own keys are named only where they are used: naming one needs the permission to.
	keys := append(make([]string, 0, len(b.Keys)+2), b.Keys...)
	if b.LeaseToken != "" {
		keys = append(keys, LeaseKey)
	}
	cooldown := max(b.Cooldown, 0).Milliseconds()
	if cooldown > 0 {
		keys = append(keys, CooldownKey)
	}
	answer, err := n.run(ctx, "evict", n.data, evictScript, keys, n.arguments(b, b.LeaseToken, cooldown)...)
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

// arguments are the script's.
func (n *Node) arguments(b Batch, token string, cooldown int64) []any {
	maxTTL, lifetime := b.limits()
	args := []any{len(b.Keys), n.db, b.Persistent, maxTTL, idleSeconds(b.MinIdle), b.MeasureEach, b.MaxBytes, b.AssumeBytes,
		token, cooldown, b.Mark, lifetime, b.Tell, "", !n.clustered}
	if b.Stored != nil {
		args[len(args)-2] = n.tellsExpiryTimes()
		for _, stored := range b.Stored {
			args = append(args, stored.binding())
		}
	}
	return args
}

// part is the batch with some of its keys only.
func (b Batch) part(places []int) Batch {
	keys, stored := b.Keys, b.Stored
	b.Keys, b.Stored = make([]string, len(places)), nil
	for i, place := range places {
		b.Keys[i] = keys[place]
		if stored != nil {
			b.Stored = append(b.Stored, stored[place])
		}
	}
	return b
}

// limits are the highest TTL that goes and the lifetime, as the scripts take them.
func (b Batch) limits() (maxTTL, lifetime int64) {
	maxTTL, lifetime = -1, -1
	if b.MaxTTL >= 0 {
		maxTTL = b.MaxTTL.Milliseconds()
	}
	if b.Lifetime > 0 {
		lifetime = b.Lifetime.Milliseconds()
	}
	return maxTTL, lifetime
}

// Rehearse says what Evict would do to a batch, by the same conditions on facts read anew, and sends
// only commands that read. It measures nothing but what it is to tell.
func (n *Node) Rehearse(ctx context.Context, b Batch) (Removal, error) {
	ask := Ask{}
	if b.MinIdle > 0 {
		ask.Idle = func(int) bool { return true }
	}
	if b.Tell {
		ask.Bytes = func(int) bool { return true }
	}
	facts, err := n.Facts(ctx, b.Keys, ask)
	if err != nil {
		return Removal{Fates: repeat(Deferred, len(b.Keys))}, err
	}
	r := Removal{Fates: make([]Fate, len(b.Keys))}
	for i, f := range facts {
		if r.Fates[i] = b.fate(f.Facts); f.Moved {
			r.Fates[i] = KeptMoved
		}
		if b.Tell {
			r.TTLs, r.Sizes = append(r.TTLs, f.PTTL()), append(r.Sizes, int64(f.Bytes))
		}
	}
	return r, nil
}

// fate is evict.lua's judgement of one key.
func (b Batch) fate(f ttlpolicy.Facts) Fate {
	fate := Gone
	switch {
	case f.Expiry == ttlpolicy.Missing:
		return Vanished
	case f.Expiry == ttlpolicy.UnknownExpiry:
		return NotDone
	case f.Expiry == ttlpolicy.Persistent && !b.Persistent:
		fate = KeptNoTTL
	case f.Expiry == ttlpolicy.Expiring && f.TTL > b.Lifetime && f.TTL > b.MaxTTL:
		fate = KeptOver
	case f.Expiry == ttlpolicy.Expiring && f.TTL > b.MaxTTL:
		fate = KeptFresh
	case b.MinIdle > 0 && !f.IdleKnown:
		fate = KeptIdleUnknown
	case b.MinIdle > 0 && f.Idle < b.MinIdle:
		fate = KeptNotIdle
	}
	if fate != Gone && b.Lifetime == 0 {
		return Refreshed
	}
	return fate
}

// idleSeconds is what OBJECT IDLETIME must tell of a key that was idle for d; 0 for no d. It is the
// difference of two clocks of whole seconds (object.c, estimateObjectIdleTime), so of a key that was
// used a moment ago it may say 1.
func idleSeconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64((d+time.Second-1)/time.Second) + 1
}

// leastIdle is the time for which a key has been idle at least.
func leastIdle(seconds int64) time.Duration {
	return time.Duration(max(seconds-1, 0)) * time.Second
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
	if len(fields) != 8 {
		return odd()
	}
	fates, ok1 := fields[1].(string)
	measured, ok2 := fields[2].(int64)
	bytes, ok3 := fields[3].(int64)
	refusal, ok4 := fields[4].(string)
	unmarked, ok5 := fields[5].(string)
	ttls, ok6 := fields[6].(string)
	sizes, ok7 := fields[7].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 || len(fates) != count {
		return odd()
	}
	r := Removal{Fates: []Fate(fates), Measured: int(measured), Bytes: bytes, Unmarked: unmarked, TTLs: numbers(ttls), Sizes: numbers(sizes)}
	if refusal != "" {
		kind := classifyAnswer(refusal)
		r.Refusal = &Error{Op: "evict", Addr: n.addr, Kind: kind, Hint: hint(kind), Err: errors.New(refusal)}
	}
	return r, nil
}

// numbers reads what the script tells of each key; what is left out is Untold.
func numbers(text string) []int64 {
	if text == "" {
		return nil
	}
	words := strings.Split(text, " ")
	all := make([]int64, len(words))
	for i, word := range words {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			n = Untold
		}
		all[i] = n
	}
	return all
}
