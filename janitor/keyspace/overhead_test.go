package keyspace

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/redistest"
)

// elements are the words of a command that makes a key of n elements.
func elements(n int, command string, element func(i int) []any) func() []any {
	return func() []any {
		words := []any{command, ""}
		for i := range n {
			words = append(words, element(i)...)
		}
		return words
	}
}

func TestFreedBytesAreWhatIsPredicted(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, kind := range []struct {
		name      string
		keys      int // so many that the buffers of connections count for little
		make      func() []any
		tolerance float64
	}{
		{"number", 50_000, func() []any { return []any{"set", "", 123456} }, 0.03},
		{"short string", 40_000, func() []any { return []any{"set", "", "short"} }, 0.03},
		{"string", 8_000, func() []any { return []any{"set", "", long + long + long} }, 0.03},
		{"hash", 20_000, elements(5, "hset", func(i int) []any { return []any{fmt.Sprintf("f%d", i), "a value"} }), 0.03},
		{"large hash", 900, elements(20, "hset", func(i int) []any { return []any{fmt.Sprintf("f%d", i), long} }), 0.05},
		{"list", 6_000, elements(40, "rpush", func(int) []any { return []any{"an element of a list"} }), 0.05},
		{"set of numbers", 30_000, elements(20, "sadd", func(i int) []any { return []any{1000 + i} }), 0.03},
		{"set", 900, elements(20, "sadd", func(i int) []any { return []any{fmt.Sprintf("%02d%s", i, long)} }), 0.05},
		{"sorted set", 16_000, elements(8, "zadd", func(i int) []any { return []any{i, fmt.Sprintf("member %d", i)} }), 0.03},
		{"large sorted set", 900, elements(20, "zadd", func(i int) []any { return []any{i, fmt.Sprintf("%02d%s", i, long)} }), 0.05},
	} {
		for _, ttl := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TTL %v", kind.name, ttl), func(t *testing.T) {
				t.Parallel()
				s := redistest.Start(t)
				n := evicting(t, s)
				c := s.Client()
				keys := kind.keys
				name := func(i int) string { return fmt.Sprintf("ml_results:%032x", i) }
				pipeline(t, c, keys, func(p redis.Pipeliner, i int) {
					words := kind.make()
					words[1] = name(i)
					p.Do(t.Context(), words...)
					if ttl {
						p.PExpire(t.Context(), name(i), time.Hour)
					}
				})
				sizes := make([]float64, keys)
				answers := pipeline(t, c, keys, func(p redis.Pipeliner, i int) { p.MemoryUsage(t.Context(), name(i)) })
				for i := range answers {
					sizes[i] = float64(answers[i].(*redis.IntCmd).Val())
				}
				closeAndWait(t, c, n)
				info := settled(t, n)
				perKey, perExpire := info.Overhead()
				var predicted float64
				gone := 0
				for _, share := range []float64{0.7, 0.99} {
					upTo := int(share * float64(keys))
					c := s.Client()
					pipeline(t, c, upTo-gone, func(p redis.Pipeliner, i int) { p.Unlink(t.Context(), name(gone+i)) })
					closeAndWait(t, c, n)
					for ; gone < upTo; gone++ {
						predicted += sizes[gone] + perKey
						if ttl {
							predicted += perExpire
						}
					}
					expires := 0
					if ttl {
						expires = gone
					}
					want := predicted + float64(info.FreedTables(0, int64(gone), int64(expires)))
					freed := awaitFreed(t, n, info, want, kind.tolerance)
					if off := math.Abs(want/freed - 1); off > kind.tolerance {
						t.Errorf("deleting %.0f %% freed %.0f bytes, predicted were %.0f: %.1f %% off", share*100, freed, want, off*100)
					}
				}
			})
		}
	}
}

// closeAndWait closes a client whose buffers would be counted, and waits until the server has seen it.
func closeAndWait(t *testing.T, c *redis.Client, n *Node) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client to be gone", func() bool { return counted(t, n).Text("connected_clients") == "1" })
}

// counted is INFO.
func counted(t *testing.T, n *Node) Info {
	t.Helper()
	info, err := n.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// settled is INFO once the tables have grown to their size: the old ones are freed in the background.
func settled(t *testing.T, n *Node) Info {
	t.Helper()
	same, last := 0, counted(t, n)
	eventually(t, "memory use to settle", func() bool {
		time.Sleep(120 * time.Millisecond) // longer than the server takes to its next turn at it
		now := counted(t, n)
		was, _ := last.UsedMemory()
		if is, _ := now.UsedMemory(); max(is-was, was-is) < 2000 {
			same++
		} else {
			same = 0
		}
		last = now
		return same == 3
	})
	return last
}

// awaitFreed returns how many bytes are free since before, as soon as they are what is wanted, or
// when tables have had all the time they need to shrink in.
func awaitFreed(t *testing.T, n *Node, before Info, want, tolerance float64) float64 {
	t.Helper()
	used := func(i Info) float64 {
		bytes, ok := i.UsedMemory()
		if !ok {
			t.Fatal("INFO tells no memory")
		}
		return float64(bytes)
	}
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		now := counted(t, n)
		freed := used(before) - used(now)
		if now.PendingFrees() == 0 && math.Abs(want/freed-1) <= tolerance || time.Now().After(end) {
			return freed
		}
	}
}

// pipeline runs count commands, some hundred at a time.
func pipeline(t testing.TB, c *redis.Client, count int, add func(p redis.Pipeliner, i int)) []redis.Cmder {
	t.Helper()
	var done []redis.Cmder
	for from := 0; from < count; from += 200 {
		cmds, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for i := from; i < min(from+200, count); i++ {
				add(p, i)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, cmds...)
	}
	return done
}

func TestOverheadDependsOnVersionAndAllocator(t *testing.T) {
	for _, c := range []struct {
		info              string
		perKey, perExpire float64
	}{
		{"redis_version:6.2.16\nmem_allocator:jemalloc-5.1.0", 0, 24},
		{"redis_version:7.0.15\nmem_allocator:jemalloc-5.2.1", 0, 24},
		{"redis_version:7.0.15\nmem_allocator:jemalloc-5.3.0", 8, 32},
		{"redis_version:7.0.15\nmem_allocator:libc", 0, 24},
		{"redis_version:7.2.6\nmem_allocator:jemalloc-5.3.0", 0, 24},
		{"redis_version:8.0.0\nmem_allocator:jemalloc-5.3.0", 0, 24},
		{"redis_version:8.2.1\nmem_allocator:jemalloc-5.3.0", 0, 0},
		{"redis_version:7.2.4\nvalkey_version:8.0.1\nmem_allocator:jemalloc-5.3.0", 0, 24},
		{"redis_version:7.2.4\nvalkey_version:8.1.0\nmem_allocator:jemalloc-5.3.0", 0, 0},
		{"redis_version:7.2.4\nvalkey_version:9.0.0\nmem_allocator:jemalloc-5.3.0", 0, 0},
		{"redis_version:7.4.0\ndragonfly_version:df-v1.25.0", 0, 0},
		{"redis_version:7.1.0", 0, 24},
		{"", 0, 0},
	} {
		if perKey, perExpire := ParseInfo(c.info).Overhead(); perKey != c.perKey || perExpire != c.perExpire {
			t.Errorf("%q: %v a key and %v a TTL, want %v and %v", c.info, perKey, perExpire, c.perKey, c.perExpire)
		}
	}
}

func TestTablesShrinkOnlyWhenTheyAreNearlyEmpty(t *testing.T) {
	for _, c := range []struct {
		info          string
		keys, expires int64
		freed         int64
	}{
		{"redis_version:7.0.15\ndb3:keys=60000,expires=60000", 53_000, 53_000, 0},
		{"redis_version:7.0.15\ndb3:keys=60000,expires=60000", 57_000, 57_000, 2 * 8 * (65_536 - 4_096)},
		{"redis_version:7.0.15\ndb3:keys=60000,expires=0", 60_000, 0, 8 * (65_536 - 4)},
		{"redis_version:7.0.15\ndb3:keys=65536,expires=0", 65_536, 0, 8 * (65_536 - 4)},
		{"redis_version:7.0.15\ndb3:keys=65537,expires=0", 65_537, 0, 8 * (131_072 - 4)},
		{"redis_version:7.0.15\ndb3:keys=60000,expires=0", 70_000, 0, 8 * (65_536 - 4)},
		{"redis_version:7.2.6\ndb3:keys=13333,expires=0", 11_333, 0, 0},
		{"redis_version:7.4.1\ndb3:keys=13333,expires=0", 11_333, 0, 8 * (16_384 - 2_048)},
		{"redis_version:8.2.0\ndb3:keys=13333,expires=0", 13_333, 0, 0},
		{"redis_version:7.0.15", 10, 0, 0},
	} {
		if freed := ParseInfo(c.info).FreedTables(3, c.keys, c.expires); freed != c.freed {
			t.Errorf("%q less %d keys and %d TTLs: %d bytes, want %d", c.info, c.keys, c.expires, freed, c.freed)
		}
	}
}
