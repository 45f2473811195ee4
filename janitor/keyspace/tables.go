package keyspace

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// Hidden is what a value takes beyond what MEMORY USAGE tells of it, in bytes, and by how much that may
// err.
type Hidden struct{ Bytes, Doubt float64 }

// Hidden tells what is hidden in each key's value, given its MEMORY USAGE: nothing, but for some kinds of
// value where Overhead finds an allocator with steps of 16 bytes. What the server refuses to tell
// counts as nothing.
func (n *Node) Hidden(ctx context.Context, info Info, keys []string, usage []float64) ([]Hidden, error) {
	hidden := make([]Hidden, len(keys))
	if perKey, _ := info.Overhead(); perKey == 0 || len(keys) == 0 {
		return hidden, nil
	}
	err := n.read(ctx, "tell how values are kept", func() error {
		pipe := n.data.Pipeline()
		types, encodings := make([]*redis.StatusCmd, len(keys)), make([]*redis.Cmd, len(keys))
		for i, key := range keys {
			types[i] = pipe.Type(ctx, key)
			encodings[i] = pipe.Do(ctx, "object", "encoding", key)
		}
		_, err := pipe.Exec(ctx)
		var answer redis.Error
		if err != nil && !errors.As(err, &answer) {
			return err
		}
		for i := range keys {
			encoding, _ := encodings[i].Text() // an answer that is none tells nothing
			hidden[i] = hiddenIn(types[i].Val(), encoding, usage[i])
		}
		return nil
	})
	return hidden, err
}

// hiddenIn is 8 bytes for the header of a list, which has 40 (quicklist.h) and is given 48; and 8 for each
// element of what is kept as a table, whose entry has 24 (dict.c) and is given 32. How many elements there
// are can't be asked for without touching the key's idle time (SCARD does), so it is judged by what
// MEMORY USAGE tells of one: the entry, its part of the buckets, about 12, and in a set the member, in a hash
// field and value, in a sorted set the member and some 50 bytes of the skip list. The shares are those of usual
// sizes: members of 30 bytes, fields with values of 80. From 15 to 110 bytes they are half as large again
// or half as small.
func hiddenIn(kind, encoding string, usage float64) Hidden {
	share := 0.0
	switch {
	case kind == "list" && encoding == "quicklist":
		return Hidden{Bytes: 8}
	case kind == "set" && encoding == "hashtable":
		share = 0.1
	case kind == "hash" && encoding == "hashtable":
		share = 0.065
	case kind == "zset" && encoding == "skiplist":
		share = 0.06
	}
	return Hidden{Bytes: share * usage, Doubt: share * usage / 2}
}
