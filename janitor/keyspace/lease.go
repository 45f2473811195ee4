package keyspace

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// The janitor's own keys. They live in database 0; those that it writes expire by themselves.
const (
	LeaseKey    = "redis-janitor:lease"
	CooldownKey = "redis-janitor:cooldown"
	PauseKey    = "redis-janitor:pause" // people set it, and the janitor only reads it
	planPrefix  = "redis-janitor:plan:" // with the id of a saved plan that was used
)

// planKey is in the lease's slot, so that in a cluster the same server has it.
func (k *Keyspace) planKey(id string) string {
	if k.cluster == nil {
		return planPrefix + id
	}
	return planPrefix + id + ":{" + LeaseKey + "}"
}

// Own tells whether a key is one of the janitor's own. In a cluster a node's cooldown has the node's
// tag behind the name.
func Own(key string) bool {
	return key == LeaseKey || key == PauseKey || key == CooldownKey || strings.HasPrefix(key, CooldownKey+":{") || strings.HasPrefix(key, planPrefix)
}

// cooldownKey is the name of the node's cooldown: one that the node itself has, where slots are dealt out.
func (n *Node) cooldownKey() string {
	if !n.clustered {
		return CooldownKey
	}
	return CooldownKey + ":{" + n.dealt().tag() + "}"
}

// keeper is the server that has the lease.
type keeper struct {
	mu   sync.Mutex
	node *Node // nil: not known yet
	ours bool  // it is none of the keyspace's nodes
}

func (k *keeper) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ours {
		return nil
	}
	return k.node.close()
}

// kept asks the keeper of the lease. Where servers take each other's places it is looked for first, and once
// more where another one may have the lease by now, or only a connection was lost: asking twice does no harm, since what
// is asked for carries the janitor's token.
func (k *Keyspace) kept(ctx context.Context, ask func(*Node) error) error {
	k.keeper.mu.Lock()
	defer k.keeper.mu.Unlock()
	if k.keeper.node == nil {
		if err := k.keeper.look(ctx, k.house); err != nil {
			return err
		}
	}
	err := ask(k.keeper.node)
	if k.house == nil {
		return err
	}
	switch KindOf(err) {
	case Moved, Unreachable, Restarted, ReadOnly:
		if err := k.keeper.look(ctx, k.house); err != nil {
			return err
		}
		return ask(k.keeper.node)
	}
	return err
}

// look has the keeper be whoever has the lease now. The lock is held.
func (k *keeper) look(ctx context.Context, house func(context.Context) (Options, target, error)) error {
	o, t, err := house(ctx)
	if err != nil {
		return err
	}
	if k.node != nil {
		if err := k.node.close(); err != nil {
			return err
		}
	}
	k.node, k.ours = newNode(o, t), true
	return nil
}

// TakeLease is Node.TakeLease on the server that has the lease.
func (k *Keyspace) TakeLease(ctx context.Context, token, name, since string, lasts time.Duration, renew bool) (holder Holder, ours bool, err error) {
	err = k.kept(ctx, func(n *Node) (err error) {
		holder, ours, err = n.TakeLease(ctx, token, name, since, lasts, renew)
		return err
	})
	return holder, ours, err
}

// ReleaseLease is Node.ReleaseLease on the server that has the lease.
func (k *Keyspace) ReleaseLease(ctx context.Context, token string) error {
	return k.kept(ctx, func(n *Node) error { return n.ReleaseLease(ctx, token) })
}

// LeaseHolder is Node.LeaseHolder on the server that has the lease.
func (k *Keyspace) LeaseHolder(ctx context.Context) (holder Holder, held bool, err error) {
	err = k.kept(ctx, func(n *Node) (err error) {
		holder, held, err = n.LeaseHolder(ctx)
		return err
	})
	return holder, held, err
}

// Identity names this Redis, or this cluster, to other janitors on this host.
func (k *Keyspace) Identity() string {
	if k.cluster != nil {
		return k.cluster.shards[0].id
	}
	if id := k.nodes[0].First().Text("run_id"); id != "" {
		return id
	}
	return k.nodes[0].addr
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
	return n.take(ctx, "take the lease", LeaseKey, token, name, since, lasts, renew)
}

// TakePlan uses up the saved plan with an id, for a token. ours is false where it was used before; the
// holder says by whom.
func (k *Keyspace) TakePlan(ctx context.Context, id, token, name, since string, lasts time.Duration) (holder Holder, ours bool, err error) {
	err = k.kept(ctx, func(n *Node) (err error) {
		holder, ours, err = n.take(ctx, "use up the plan", k.planKey(id), token, name, since, lasts, false)
		return err
	})
	return holder, ours, err
}

// ReleasePlan takes back that a plan was used, if the token has used it: the mark runs out at once.
func (k *Keyspace) ReleasePlan(ctx context.Context, id, token string) error {
	return k.kept(ctx, func(n *Node) error {
		_, _, err := n.take(ctx, "give the plan back", k.planKey(id), token, "", "", time.Millisecond, true)
		return err
	})
}

// PlanHolder tells who has used a plan; false where nobody has.
func (k *Keyspace) PlanHolder(ctx context.Context, id string) (holder Holder, used bool, err error) {
	err = k.kept(ctx, func(n *Node) (err error) {
		holder, used, err = n.holder(ctx, "see whether the plan was used", k.planKey(id))
		return err
	})
	return holder, used, err
}

// take has a key say who holds what it stands for, by the script for the lease.
func (n *Node) take(ctx context.Context, op, key, token, name, since string, lasts time.Duration, renew bool) (holder Holder, ours bool, err error) {
	answer, err := n.run(ctx, op, n.own, leaseScript, []string{key}, token, lasts.Milliseconds(), name, since, renew)
	if err != nil {
		return Holder{}, false, err
	}
	fields, ok := answer.([]any)
	if !ok || len(fields) != 4 {
		return Holder{}, false, &Error{Op: op, Addr: n.addr, Kind: Other,
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
	return n.holder(ctx, "read the lease", LeaseKey)
}

func (n *Node) holder(ctx context.Context, op, key string) (holder Holder, held bool, err error) {
	err = n.read(ctx, op, func() error {
		fields, err := n.own.HGetAll(ctx, key).Result()
		if err != nil || len(fields) == 0 {
			return err
		}
		ms, err := n.own.Do(ctx, "pttl", key).Int64()
		switch {
		case err != nil || ms == -2:
			return err // it ran out in between
		case fields["token"] == "" || ms < 0:
			return &Error{Op: op, Addr: n.addr, Kind: WrongType, Hint: hint(WrongType),
				Err: fmt.Errorf("%s is in use for something else", key)}
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
		ms, err := n.own.Do(ctx, "pttl", n.cooldownKey()).Int64()
		left = max(time.Duration(ms)*time.Millisecond, 0)
		return err
	})
	return left, err
}

// Pause is the switch that keeps every janitor of this Redis at home while its key exists.
type Pause struct {
	Text string        // what whoever set it wrote; any bytes
	Left time.Duration // until it ends by itself; 0: not before somebody removes it
	// Unread is why the text can't be told: the key is no string, or may not be read. It holds all the same.
	Unread error
}

// Paused reads the switch; false where it is not set. TTL and text are read apart, since the first needs no
// permission that the work itself does not need, and is enough to tell that it is set.
func (n *Node) Paused(ctx context.Context) (p Pause, set bool, err error) {
	err = n.read(ctx, "read the pause", func() error {
		ms, err := n.own.Do(ctx, "pttl", PauseKey).Int64()
		if err != nil || ms == -2 {
			return err
		}
		p, set = Pause{Left: max(time.Duration(ms)*time.Millisecond, 0)}, true
		p.Text, err = n.own.Get(ctx, PauseKey).Result()
		switch kind := KindOf(fail(ctx, "", "", err)); {
		case errors.Is(err, redis.Nil): // it ended in between
			set, err = false, nil
		case err != nil && (kind == NoPerm || kind == WrongType || kind == NoCommand):
			p.Unread, err = fail(ctx, "read the pause", n.addr, err), nil
		}
		return err
	})
	return p, set && err == nil, err
}

// MarkFormat writes a time as the cooldown mark and the lease carry it.
func MarkFormat(t time.Time, by string) string {
	return strconv.FormatInt(t.UnixMilli(), 10) + " " + by
}
