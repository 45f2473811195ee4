package keyspace

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// The janitor's own keys. They live in database 0 and expire by themselves.
const (
	LeaseKey    = "redis-janitor:lease"
	CooldownKey = "redis-janitor:cooldown"
)

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
	answer, err := n.run(ctx, "take the lease", n.own, leaseScript, []string{LeaseKey}, token, lasts.Milliseconds(), name, since, renew)
	if err != nil {
		return Holder{}, false, err
	}
	fields, ok := answer.([]any)
	if !ok || len(fields) != 4 {
		return Holder{}, false, &Error{Op: "take the lease", Addr: n.addr, Kind: Other,
			Err: fmt.Errorf("the lease script answered something unexpected: %.80v", answer)}
	}
	name, _ = fields[1].(string)
	since, _ = fields[2].(string)
	holder.Name, holder.Since = plain(name), plain(since)
	if ms, ok := fields[3].(int64); ok && ms > 0 {
		holder.Left = time.Duration(ms) * time.Millisecond
	}
	return holder, fields[0] == "ours", nil
}

// ReleaseLease gives the lease back, if the token still holds it.
func (n *Node) ReleaseLease(ctx context.Context, token string) error {
	_, err := n.run(ctx, "release the lease", n.own, releaseScript, []string{LeaseKey}, token)
	return err
}

// LeaseHolder tells who holds the lease, without taking or touching it; false where nobody does. A
// key of that name that is no lease is an *Error of kind WrongType, as it is to TakeLease.
func (n *Node) LeaseHolder(ctx context.Context) (holder Holder, held bool, err error) {
	err = n.read(ctx, "read the lease", func() error {
		fields, err := n.own.HGetAll(ctx, LeaseKey).Result()
		if err != nil || len(fields) == 0 {
			return err
		}
		ms, err := n.own.Do(ctx, "pttl", LeaseKey).Int64()
		switch {
		case err != nil || ms == -2:
			return err // it ran out in between
		case fields["token"] == "" || ms < 0:
			return &Error{Op: "read the lease", Addr: n.addr, Kind: WrongType, Hint: hint(WrongType),
				Err: fmt.Errorf("%s is in use for something else", LeaseKey)}
		}
		held = true
		holder = Holder{Name: plain(fields["holder"]), Since: plain(fields["since"]), Left: time.Duration(ms) * time.Millisecond}
		return nil
	})
	return holder, held, err
}

// CooldownLeft is how long the node's cooldown still lasts, 0 where none is running.
func (n *Node) CooldownLeft(ctx context.Context) (left time.Duration, err error) {
	err = n.read(ctx, "read the cooldown", func() error {
		ms, err := n.own.Do(ctx, "pttl", CooldownKey).Int64()
		left = max(time.Duration(ms)*time.Millisecond, 0)
		return err
	})
	return left, err
}

// MarkFormat writes a time as the cooldown mark and the lease carry it.
func MarkFormat(t time.Time, by string) string {
	return strconv.FormatInt(t.UnixMilli(), 10) + " " + by
}
