package redistest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Key is a key as Snapshot saw it. Two are equal when type, expiry and value are.
type Key struct {
	Type      string
	ExpiresAt int64  // Unix time in milliseconds; -1: never
	Digest    string // of the value
}

// Snapshot reads every key of c's database, so that two can be compared with maps.Equal: the expiry is a point in time,
// which does not move as a TTL does, and a set or hash compares equal whatever its order, which RESTORE may change (DUMP
// would differ). It needs Redis 7.0 (PEXPIRETIME), starts idle times anew, and is a picture of one moment only where
// nobody writes. It panics when Redis refuses: there is no test to fail here, and no partial answer worth comparing.
func Snapshot(ctx context.Context, c *redis.Client) map[string]Key {
	keys := map[string]Key{}
	for cursor := uint64(0); ; {
		page, next, err := c.Scan(ctx, cursor, "*", 1000).Result()
		if err == nil {
			err = snapshotPage(ctx, c, page, keys)
		}
		if err != nil {
			panic(fmt.Sprintf("redistest: taking a snapshot of %s: %v", c.Options().Addr, err))
		}
		if cursor = next; cursor == 0 {
			return keys
		}
	}
}

func snapshotPage(ctx context.Context, c *redis.Client, names []string, into map[string]Key) error {
	types := make([]*redis.StatusCmd, len(names))
	if _, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			types[i] = p.Type(ctx, name)
		}
		return nil
	}); err != nil {
		return err
	}
	values, expiries := make([]*redis.Cmd, len(names)), make([]*redis.Cmd, len(names))
	// Its error is the first command's, which may only say that a key has expired; each is looked at below.
	_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			values[i] = p.Do(ctx, readingCommand(types[i].Val(), name)...)
			expiries[i] = p.Do(ctx, "PEXPIRETIME", name)
		}
		return nil
	})
	for i, name := range names {
		expiry, err := expiries[i].Int64()
		if err != nil {
			return fmt.Errorf("reading the expiry of %q: %w", name, err)
		}
		if expiry == -2 {
			continue // expired since the page was read
		}
		value, err := values[i].Result()
		if err != nil {
			return fmt.Errorf("reading %q: %w", name, err)
		}
		into[name] = Key{Type: types[i].Val(), ExpiresAt: expiry, Digest: digest(types[i].Val(), value)}
	}
	return nil
}

// readingCommand reads a whole value. Streams and modules' types only DUMP shows in full.
func readingCommand(kind, name string) []any {
	switch kind {
	case "string":
		return []any{"GET", name}
	case "list":
		return []any{"LRANGE", name, 0, -1}
	case "set":
		return []any{"SMEMBERS", name}
	case "hash":
		return []any{"HGETALL", name}
	case "zset":
		return []any{"ZRANGE", name, 0, -1, "WITHSCORES"}
	}
	return []any{"DUMP", name}
}

// digest is of the reply to readingCommand, made independent of order where order means nothing.
func digest(kind string, value any) string {
	words := []string{fmt.Sprintf("%q", value)}
	if list, ok := value.([]any); ok {
		size := 1
		if kind == "hash" {
			size = 2
		}
		words = words[:0]
		for element := range slices.Chunk(list, size) {
			words = append(words, fmt.Sprintf("%q", element))
		}
		if kind == "set" || kind == "hash" {
			slices.Sort(words)
		}
	}
	sum := sha256.Sum256(fmt.Append(nil, words))
	return hex.EncodeToString(sum[:8])
}
