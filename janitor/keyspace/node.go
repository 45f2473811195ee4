package keyspace

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/ttlpolicy"
)

// Info asks the server for its default INFO sections.
func (n *Node) Info(ctx context.Context) (Info, error) {
	text, err := n.data.Info(ctx).Result()
	if err != nil {
		return Info{}, fail("read INFO", n.addr, err)
	}
	return ParseInfo(text), nil
}

// Size is the number of keys in the selected database, expired ones that Redis has not removed
// yet included.
func (n *Node) Size(ctx context.Context) (int64, error) {
	size, err := n.data.DBSize(ctx).Result()
	return size, fail("count keys", n.addr, err)
}

// Ping measures one round trip. An error that the server itself answers with (MISCONF, say) still
// took the trip, and is no error here.
func (n *Node) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := n.data.Ping(ctx).Err()
	took := time.Since(start)
	var answer redis.Error
	if err != nil && !errors.As(err, &answer) {
		return 0, fail("ping", n.addr, err)
	}
	return took, nil
}

// Page reads one page of SCAN. count is the work that the server does before it answers, not the
// number of keys that come back. A next cursor of 0 ends the walk.
func (n *Node) Page(ctx context.Context, cursor uint64, match string, count int64) (keys []string, next uint64, err error) {
	if match == "*" {
		match = "" // costs the server a comparison a key and changes nothing
	}
	keys, next, err = n.data.Scan(ctx, cursor, match, count).Result()
	return keys, next, fail("scan", n.addr, err)
}

// RandomKeys draws count keys with replacement. It returns fewer where the database is empty or
// consists of expired keys.
func (n *Node) RandomKeys(ctx context.Context, count int) ([]string, error) {
	pipe := n.data.Pipeline()
	drawn := make([]*redis.StringCmd, count)
	for i := range drawn {
		drawn[i] = pipe.RandomKey(ctx)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fail("draw random keys", n.addr, err)
	}
	keys := make([]string, 0, count)
	for _, cmd := range drawn {
		key, err := cmd.Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return nil, fail("draw random keys", n.addr, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Ask says what Facts should find out besides the TTL.
type Ask struct {
	Idle  func(i int) bool // of which keys the idle time is wanted; nil: of none
	Bytes func(i int) bool // of which keys MEMORY USAGE is wanted; nil: of none
}

// KeyFacts is what was found out about one key. Bytes is below zero where it was not asked for, or
// cannot be told.
type KeyFacts struct {
	ttlpolicy.Facts
	Bytes float64
}

// Facts reads the TTLs of keys, and what else is asked for, in one pipeline: its time is the sum
// of its commands' for every other client, so callers bound it. A fact that the server refuses for
// one key is unknown; a refusal of all is an error.
func (n *Node) Facts(ctx context.Context, keys []string, ask Ask) ([]KeyFacts, error) {
	if len(keys) == 0 {
		return nil, nil
	}
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
			sizes[i] = pipe.Do(ctx, "memory", "usage", key)
		}
	}
	_, err := pipe.Exec(ctx)
	var answer redis.Error
	if err != nil && !errors.As(err, &answer) {
		return nil, fail("read TTLs", n.addr, err)
	}
	facts := make([]KeyFacts, len(keys))
	for i := range keys {
		if err := ttls[i].Err(); err != nil {
			if kind := KindOf(fail("", "", err)); kind == Moved {
				facts[i].Expiry = ttlpolicy.UnknownExpiry
				facts[i].Bytes = -1
				continue
			}
			return nil, fail("read TTLs", n.addr, err)
		}
		facts[i] = KeyFacts{Facts: expiry(ttls[i]), Bytes: -1}
		if idles[i] != nil {
			if seconds, err := idles[i].Int64(); err == nil {
				facts[i].IdleKnown, facts[i].Idle = true, time.Duration(seconds)*time.Second
			}
		}
		if sizes[i] != nil {
			bytes, err := sizes[i].Int64()
			switch kind := KindOf(fail("", "", err)); {
			case err == nil:
				facts[i].Bytes = float64(bytes)
			case kind == NoPerm || kind == NoCommand:
				// This refuses all keys. Without sizes no target can be aimed at: everything eligible would go.
				return nil, fail("measure keys", n.addr, err)
			}
		}
	}
	return facts, nil
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
func (n *Node) Count(ctx context.Context, key string) (int64, error) {
	kind, err := n.data.Type(ctx, key).Result()
	if err != nil {
		return 0, fail("read the type of the users key", n.addr, err)
	}
	var count int64
	switch kind {
	case "none":
		return 0, nil
	case "set":
		count, err = n.data.SCard(ctx, key).Result()
	case "zset":
		count, err = n.data.ZCard(ctx, key).Result()
	case "hash":
		count, err = n.data.HLen(ctx, key).Result()
	case "list":
		count, err = n.data.LLen(ctx, key).Result()
	case "string":
		return n.countString(ctx, key)
	default:
		return 0, fail("count users", n.addr, fmt.Errorf("a key of type %s does not tell a number of users", kind))
	}
	return count, fail("count users", n.addr, err)
}

func (n *Node) countString(ctx context.Context, key string) (int64, error) {
	text, err := n.data.Get(ctx, key).Result()
	if err != nil {
		return 0, fail("read the users key", n.addr, err)
	}
	// A HyperLogLog is a string that begins with this word (hyperloglog.c).
	if len(text) >= 4 && text[:4] == "HYLL" {
		count, err := n.data.PFCount(ctx, key).Result()
		return count, fail("count users", n.addr, err)
	}
	count, err := strconv.ParseInt(text, 10, 64)
	if err != nil || count < 0 {
		return 0, fail("read the users key", n.addr, errors.New("its value is not a number of users"))
	}
	return count, nil
}
