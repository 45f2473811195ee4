package keyspace

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/ttlpolicy"
)

// Info asks the server for its default INFO sections.
func (n *Node) Info(ctx context.Context) (info Info, err error) {
	err = n.read(ctx, "read INFO", func() (err error) {
		info, err = n.info(ctx)
		return err
	})
	return info, err
}

func (n *Node) info(ctx context.Context) (Info, error) {
	text, err := n.data.Info(ctx).Result()
	if err != nil {
		return Info{}, err
	}
	return ParseInfo(text), nil
}

// Size is the number of keys in the selected database, expired ones that Redis has not removed
// yet included.
func (n *Node) Size(ctx context.Context) (size int64, err error) {
	err = n.read(ctx, "count keys", func() (err error) {
		size, err = n.data.DBSize(ctx).Result()
		return err
	})
	return size, err
}

// Ping measures one round trip. An error that the server itself answers with (MISCONF, say) still
// took the trip, and is no error here.
func (n *Node) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := n.data.Ping(ctx).Err()
	took := time.Since(start)
	var answer redis.Error
	if err != nil && !errors.As(err, &answer) {
		return 0, fail(ctx, "ping", n.addr, err)
	}
	return took, nil
}

// Page reads one page of SCAN. count is the work that the server does before it answers, not the
// number of keys that come back. A next cursor of 0 ends the walk.
func (n *Node) Page(ctx context.Context, cursor uint64, match string, count int64) (keys []string, next uint64, err error) {
	if match == "*" {
		match = "" // costs the server a comparison a key and changes nothing
	}
	err = n.read(ctx, "scan", func() (err error) {
		keys, next, err = n.data.Scan(ctx, cursor, match, count).Result()
		return err
	})
	return keys, next, err
}

// RandomKeys draws count keys with replacement. It returns fewer where the database is empty or
// consists of expired keys.
func (n *Node) RandomKeys(ctx context.Context, count int) (keys []string, err error) {
	err = n.read(ctx, "draw random keys", func() error {
		drawn, err := n.data.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range count {
				p.RandomKey(ctx)
			}
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		keys = make([]string, 0, count)
		for _, cmd := range drawn {
			switch key, err := cmd.(*redis.StringCmd).Result(); {
			case err == nil:
				keys = append(keys, key)
			case !errors.Is(err, redis.Nil):
				return err
			}
		}
		return nil
	})
	return keys, err
}

// Ask says what Facts should find out besides the TTL.
type Ask struct {
	Idle  func(i int) bool // of which keys the idle time is wanted; nil: of none
	Bytes func(i int) bool // of which keys MEMORY USAGE is wanted; nil: of none
}

// sampledElements is at how many of a value's elements MEMORY USAGE looks, by whose mean it judges the rest. Redis itself would look at
// 5, and one large field among twenty would be missed, or counted twenty times, for all keys of a family alike: where it
// lies hangs on its name. Of a string it looks at nothing. The scripts say the same number.
const sampledElements = 64

// KeyFacts is what was found out about one key. Bytes is below zero where it was not asked for, or
// cannot be told.
type KeyFacts struct {
	ttlpolicy.Facts
	Bytes float64
	Moved bool // another server of the cluster has it now, or will have
}

// PTTL is the key's TTL as Redis tells it: -2 for a key that is gone, -1 for one without TTL, else ms.
func (f KeyFacts) PTTL() int64 {
	switch f.Expiry {
	case ttlpolicy.Missing:
		return -2
	case ttlpolicy.Persistent:
		return -1
	case ttlpolicy.Expiring:
		return f.TTL.Milliseconds()
	}
	return Untold
}

// Facts reads the TTLs of keys, and what else is asked for, in one pipeline: its time is the sum
// of its commands' for every other client, so callers bound it. What the server does not permit, or
// keeps elsewhere, for some of the keys is unknown; where it permits none, that is an error.
func (n *Node) Facts(ctx context.Context, keys []string, ask Ask) (facts []KeyFacts, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	err = n.read(ctx, "read TTLs", func() (err error) {
		facts, err = n.facts(ctx, keys, ask)
		return err
	})
	return facts, err
}

func (n *Node) facts(ctx context.Context, keys []string, ask Ask) ([]KeyFacts, error) {
	pipe := n.data.Pipeline()
	ttls := make([]*redis.Cmd, len(keys))
	idles := make([]*redis.Cmd, len(keys))
	sizes := make([]*redis.Cmd, len(keys))
	for i, key := range keys {
		ttls[i] = pipe.Do(ctx, "pttl", key)
		if ask.Idle != nil && ask.Idle(i) {
			idles[i] = pipe.Do(ctx, "object", "idletime", key)
		}
		if ask.Bytes != nil && ask.Bytes(i) {
			sizes[i] = pipe.Do(ctx, "memory", "usage", key, "samples", sampledElements)
		}
	}
	cmds, _ := pipe.Exec(ctx) // the first error only; each is looked at below
	for _, cmd := range cmds {
		// After a lost connection the rest of the answers is missing, whatever came before.
		var answer redis.Error
		if err := cmd.Err(); err != nil && !errors.As(err, &answer) {
			return nil, err
		}
	}
	facts := make([]KeyFacts, len(keys))
	refused := 0
	for i := range keys {
		facts[i].Bytes = -1
		if err := ttls[i].Err(); err != nil {
			kind := KindOf(fail(ctx, "", "", err))
			if n.clustered && kind == Moved {
				facts[i].Moved = true
				continue
			}
			if kind != Moved && kind != NoPerm {
				return nil, err
			}
			if refused++; refused == len(keys) {
				return nil, err
			}
			continue
		}
		facts[i].Facts = expiry(ttls[i])
		if idles[i] != nil {
			if seconds, err := idles[i].Int64(); err == nil {
				facts[i].IdleKnown, facts[i].Idle = true, leastIdle(seconds)
			}
		}
		if sizes[i] != nil {
			bytes, err := sizes[i].Int64()
			switch kind := KindOf(fail(ctx, "", "", err)); {
			case err == nil:
				facts[i].Bytes = float64(bytes)
			case kind == NoPerm || kind == NoCommand:
				// This refuses all keys. Without sizes no target can be aimed at: everything eligible would go.
				return nil, fail(ctx, "measure keys", n.addr, err)
			}
		}
	}
	return facts, nil
}

// Type is the type of a key's value, in Redis's words; "none" where there is no such key.
func (n *Node) Type(ctx context.Context, key string) (kind string, err error) {
	err = n.read(ctx, "read the type", func() (err error) {
		kind, err = n.data.Type(ctx, key).Result()
		return err
	})
	return kind, err
}

// expiry reads an answer to PTTL: -2 for a key that is gone, -1 for one without TTL.
func expiry(cmd *redis.Cmd) ttlpolicy.Facts {
	ms, err := cmd.Int64()
	switch {
	case err != nil || ms < -2:
		return ttlpolicy.Facts{}
	case ms == -2:
		return ttlpolicy.Facts{Expiry: ttlpolicy.Missing}
	case ms == -1:
		return ttlpolicy.Facts{Expiry: ttlpolicy.Persistent}
	}
	return ttlpolicy.Facts{Expiry: ttlpolicy.Expiring, TTL: time.Duration(ms) * time.Millisecond}
}

// Count reads a number of people from a key: a string's number, or how many members a set, sorted
// set, hash, list or HyperLogLog has. A missing key counts nobody. The key lives in the selected
// database.
func (n *Node) Count(ctx context.Context, key string) (count int64, err error) {
	err = n.read(ctx, "count users", func() (err error) {
		count, err = n.count(ctx, key)
		return err
	})
	return count, err
}

func (n *Node) count(ctx context.Context, key string) (int64, error) {
	kind, err := n.data.Type(ctx, key).Result()
	if err != nil {
		return 0, err
	}
	switch kind {
	case "none":
		return 0, nil
	case "set":
		return n.data.SCard(ctx, key).Result()
	case "zset":
		return n.data.ZCard(ctx, key).Result()
	case "hash":
		return n.data.HLen(ctx, key).Result()
	case "list":
		return n.data.LLen(ctx, key).Result()
	case "string":
		return n.countString(ctx, key)
	}
	return 0, fmt.Errorf("a key of type %.40q does not tell a number of users", kind)
}

func (n *Node) countString(ctx context.Context, key string) (int64, error) {
	text, err := n.data.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil // gone since it was asked for its type
	}
	if err != nil {
		return 0, err
	}
	// A HyperLogLog is a string that begins with this word (hyperloglog.c).
	if strings.HasPrefix(text, "HYLL") {
		// Of a single key it would write the count into it; of several it counts the union.
		return n.data.PFCount(ctx, key, key).Result()
	}
	count, err := strconv.ParseInt(text, 10, 64)
	if err != nil || count < 0 {
		return 0, errors.New("the value of the users key is not a number of users")
	}
	return count, nil
}
