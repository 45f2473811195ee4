package keyspace

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// Understated is by what share of its MEMORY USAGE each key weighs more than that says: 0, but for
// sets, hashes and sorted sets that are kept as tables where Overhead finds entries of 32 bytes, since
// each of their elements has one. How many there are can't be asked for without touching the key's
// idle time (SCARD does), so these are the shares of elements of usual sizes: right within 5 % of the
// value for members of up to 110 bytes, and for fields with values of up to 400. What the server
// refuses to tell counts as 0.
func (n *Node) Understated(ctx context.Context, info Info, keys []string) ([]float64, error) {
	shares := make([]float64, len(keys))
	if perKey, _ := info.Overhead(); perKey == 0 || len(keys) == 0 {
		return shares, nil
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
			shares[i] = tableShare(types[i].Val(), encoding)
		}
		return nil
	})
	return shares, err
}

// tableShare is 8 bytes an element of what MEMORY USAGE tells of it: an entry of 24, its part of the
// buckets, about 12, and in a set the member, in a hash field and value, in a sorted set the member and
// some 50 bytes of the skip list.
func tableShare(kind, encoding string) float64 {
	switch {
	case kind == "set" && encoding == "hashtable":
		return 0.105
	case kind == "hash" && encoding == "hashtable":
		return 0.065
	case kind == "zset" && encoding == "skiplist":
		return 0.06
	}
	return 0
}
