package keyspace

import (
	"context"
	"crypto/sha1" //nolint:gosec // it tells whether a value has changed, not whether somebody forged one.
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Captured is a key as a capsule holds it.
type Captured struct {
	Type      string
	ExpiresAt int64  // Unix time in milliseconds; -1: never
	TTL       int64  // milliseconds that were left; -1: no end
	Value     string // as DUMP gave it
}

// binding is what the eviction script compares with the key as it is then: its value and its expiry.
func (c Captured) binding() string {
	return fmt.Sprintf("%x %d", sha1.Sum([]byte(c.Value)), c.ExpiresAt) //nolint:gosec // see above.
}

// Capture is what was read of a batch.
type Capture struct {
	Fates  []Fate     // one a key; Gone: it may go, and was read
	Values []Captured // one a key; nothing where it was not read
	TTLs   []int64    // what PTTL said of each key; Untold where it wasn't asked
	// Refusal is why reading ended early, nil where it didn't.
	Refusal error
}

func newCapture(keys int) Capture {
	return Capture{Fates: repeat(Deferred, keys), Values: make([]Captured, keys), TTLs: slices.Repeat([]int64{Untold}, keys)}
}

// CanCapture loads the capturing script.
func (n *Node) CanCapture(ctx context.Context) error {
	return n.load(ctx, "load the capturing script", n.data, captureScript)
}

// Capture reads the values of those keys of a batch that qualify, by the conditions of Evict, and deletes
// nothing. A value of more than largest bytes, by its MEMORY USAGE or as DUMP writes it, is not read out and
// its key KeptTooLarge. It ends early at the batch's MaxBytes, which must be above zero. DUMP begins the idle
// times of what it reads anew. An error means that nothing was captured.
func (n *Node) Capture(ctx context.Context, b Batch, largest int64) (Capture, error) {
	if n.clustered {
		return n.captureBySlot(ctx, b, largest)
	}
	c := newCapture(len(b.Keys))
	answer, err := n.run(ctx, "capture", n.data, captureScript, b.Keys, n.captureArguments(b, largest)...)
	if err == nil {
		err = n.enterCapture(answer, everyPlace(len(b.Keys)), &c)
	}
	if err != nil {
		return newCapture(len(b.Keys)), unchanged(err)
	}
	return c, nil
}

func (n *Node) captureArguments(b Batch, largest int64) []any {
	maxTTL, lifetime := b.limits()
	return []any{b.Persistent, maxTTL, idleSeconds(b.MinIdle), lifetime, b.MaxBytes, largest, n.tellsExpiryTimes()}
}

func everyPlace(count int) []int {
	places := make([]int, count)
	for i := range places {
		places[i] = i
	}
	return places
}

// unchanged tells of an error that nothing was changed: the capturing script only reads.
func unchanged(err error) error {
	var failure *Error
	if errors.As(err, &failure) {
		failure.Sent = false
	}
	return err
}

// captureBySlot is Capture on a cluster's node: a script a slot, sent together.
func (n *Node) captureBySlot(ctx context.Context, b Batch, largest int64) (Capture, error) {
	c := newCapture(len(b.Keys))
	groups, bytes := bySlot(b.Keys), int64(0)
	for len(groups) > 0 && c.Refusal == nil && bytes < b.MaxBytes {
		now := groups
		if b.Uneven {
			now = groups[:1] // as in evictBySlot
		}
		groups = groups[len(now):]
		if err := n.captureGroups(ctx, b, now, largest, &c); err != nil {
			return newCapture(len(b.Keys)), unchanged(err)
		}
		for _, places := range now {
			for _, place := range places {
				bytes += int64(len(c.Values[place].Value))
			}
		}
	}
	return c, nil
}

// captureGroups has every group's script run, and gives the server the script where it has forgotten it.
func (n *Node) captureGroups(ctx context.Context, b Batch, groups [][]int, largest int64, c *Capture) error {
	for attempt := 0; ; attempt++ {
		if err := n.CanCapture(ctx); err != nil {
			return err
		}
		sent := make([]*redis.Cmd, len(groups))
		pipe := n.data.Pipeline()
		for g, places := range groups {
			part := b.part(places)
			sent[g] = pipe.EvalSha(ctx, captureScript.digest, part.Keys, n.captureArguments(part, largest)...)
		}
		_, _ = pipe.Exec(ctx) // each answer is looked at below
		var failure error
		for g, places := range groups {
			if err := n.settleCapture(ctx, sent[g], places, c); err != nil && failure == nil {
				failure = err
			}
		}
		if KindOf(failure) != NoScript || attempt == 2 {
			return failure
		}
		// Reading once more changes nothing, so all of them are asked again.
		n.loaded.forget(captureScript.digest)
	}
}

func (n *Node) settleCapture(ctx context.Context, cmd *redis.Cmd, places []int, c *Capture) error {
	answer, err := cmd.Result()
	if err != nil {
		if err = n.scriptError(ctx, "capture", err); KindOf(err) != Moved {
			return err
		}
		for _, place := range places {
			c.Fates[place] = KeptMoved
		}
		return nil
	}
	return n.enterCapture(answer, places, c)
}

// enterCapture enters the script's answer for the keys at some places.
func (n *Node) enterCapture(answer any, places []int, c *Capture) error {
	odd := &Error{Op: "capture", Addr: n.addr, Kind: Other, Err: fmt.Errorf("the capturing script answered something unexpected: %.80v", answer)}
	fields, _ := answer.([]any)
	if len(fields) != 5 {
		return odd
	}
	fates, ok1 := fields[1].(string)
	refusal, ok2 := fields[2].(string)
	values, ok3 := fields[3].([]any)
	ttls, ok4 := fields[4].(string)
	told := numbers(ttls)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(told) > len(places) || len(fates) != len(places) || strings.Count(fates, string(rune(Gone))) != len(values) {
		return odd
	}
	for i, ttl := range told {
		c.TTLs[places[i]] = ttl
	}
	for i, place := range places {
		c.Fates[place] = Fate(fates[i])
		if Fate(fates[i]) != Gone {
			continue
		}
		value, ok := parseCaptured(values[0])
		if !ok {
			return odd
		}
		c.Values[place], values = value, values[1:]
	}
	if refusal != "" && c.Refusal == nil {
		kind := classifyAnswer(refusal)
		c.Refusal = &Error{Op: "capture", Addr: n.addr, Kind: kind, Hint: hint(kind), Err: errors.New(refusal)}
	}
	return nil
}

func parseCaptured(value any) (c Captured, ok bool) {
	fields, _ := value.([]any)
	if len(fields) != 4 {
		return c, false
	}
	kind, ok1 := fields[0].(string)
	expiresAt, ok2 := fields[1].(int64)
	ttl, ok3 := fields[2].(int64)
	dump, ok4 := fields[3].(string)
	return Captured{kind, expiresAt, ttl, dump}, ok1 && ok2 && ok3 && ok4
}

// tellsExpiryTimes is whether the server knows PEXPIRETIME, as it does from 7.0 on.
func (n *Node) tellsExpiryTimes() bool {
	major, _, _ := strings.Cut(n.First().Text("redis_version"), ".")
	version, err := strconv.Atoi(major)
	return err == nil && version >= 7
}
