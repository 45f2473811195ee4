package janitor_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

const mb = 1 << 20

// entry is a key that a test puts into a server, and remembers.
type entry struct {
	key    string
	expiry time.Time // zero: never
	size   int       // bytes of its value
}

// stock is what a family holds.
type stock []entry

// evenly makes n entries whose TTLs lie evenly over (from, to], the shortest first.
func evenly(prefix string, n int, from, to time.Duration, size func(i int) int) stock {
	entries, now := make(stock, n), time.Now()
	for i := range entries {
		ttl := from + time.Duration(float64(to-from)*float64(i+1)/float64(n))
		entries[i] = entry{prefix + strconv.Itoa(i), now.Add(ttl), size(i)}
	}
	return entries
}

// forever makes n entries without TTL.
func forever(prefix string, n, size int) stock {
	entries := make(stock, n)
	for i := range entries {
		entries[i] = entry{key: prefix + strconv.Itoa(i), size: size}
	}
	return entries
}

func bytesEach(size int) func(int) int { return func(int) int { return size } }

// logNormal gives sizes that spread as widely as those of real caches, alike in every run.
func logNormal(median, sigma float64) func(int) int {
	r := rand.New(rand.NewPCG(1, 2))
	return func(int) int { return int(median * math.Exp(sigma*r.NormFloat64())) }
}

// writer adds the commands that write an entry.
type writer func(context.Context, redis.Pipeliner, entry)

func writeString(ctx context.Context, p redis.Pipeliner, e entry) {
	value := strings.Repeat("v", e.size)
	if e.expiry.IsZero() {
		p.Do(ctx, "SET", e.key, value)
		return
	}
	p.Do(ctx, "SET", e.key, value, "PXAT", e.expiry.UnixMilli())
}

// startLean starts a server that keeps no latency histograms: it makes one for each command at its first
// use, and a quarter of a megabyte of them looks like other people's data.
func startLean(t *testing.T, args ...string) *redistest.Server {
	t.Helper()
	return redistest.Start(t, append([]string{"--latency-tracking", "no"}, args...)...)
}

// fill writes entries, in an order that says nothing of their age. The connection that it needs is gone
// when it returns, for its buffers would count as memory.
func fill(t *testing.T, s *redistest.Server, write writer, stocks ...stock) {
	t.Helper()
	all := slices.Concat(stocks...)
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	c := redis.NewClient(&redis.Options{Addr: s.Addr, Protocol: 2, DisableIdentity: true, PoolSize: 1})
	for some := range slices.Chunk(all, 500) {
		if _, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, e := range some {
				write(t.Context(), p, e)
			}
			return nil
		}); err != nil {
			t.Fatalf("filling %s: %v", s.Addr, err)
		}
	}
	name := c.Do(t.Context(), "CLIENT", "ID").Val()
	c.Close()
	for other := s.Client(); other.Do(t.Context(), "CLIENT", "LIST", "ID", name).Val() != ""; {
		time.Sleep(time.Millisecond)
	}
}

// keysOf lists the keys that a server has.
func keysOf(t *testing.T, c *redis.Client) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	for cursor := uint64(0); ; {
		page, next, err := c.Scan(t.Context(), cursor, "*", 1000).Result()
		if err != nil {
			t.Fatalf("reading the keys of %s: %v", c.Options().Addr, err)
		}
		for _, key := range page {
			keys[key] = true
		}
		if cursor = next; cursor == 0 {
			return keys
		}
	}
}

// gone counts the entries that a server has no more.
func (s stock) gone(left map[string]bool) (n int) {
	for _, e := range s {
		if !left[e.key] {
			n++
		}
	}
	return n
}

// outOfOrder counts the keys that went although older ones stayed: as many others should have gone
// in their place. A key without TTL is older than all.
func (s stock) outOfOrder(left map[string]bool) (wrong int) {
	byAge := slices.SortedStableFunc(slices.Values(s), func(a, b entry) int { return a.expiry.Compare(b.expiry) })
	evicted := s.gone(left)
	if evicted == 0 {
		return 0
	}
	for youngest, i := byAge[evicted-1].expiry, evicted; i < len(byAge); i++ {
		if !left[byAge[i].key] && byAge[i].expiry.After(youngest) {
			wrong++
		}
	}
	return wrong
}

// settledMemory is what the server counts against its limit, once nothing waits to be freed and the
// janitor's connections with their buffers are gone.
func settledMemory(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	for {
		clients, err := c.Do(t.Context(), "CLIENT", "LIST").Text()
		if err != nil {
			t.Fatal(err)
		}
		if infoNumber(t, c, "lazyfree_pending_objects") == 0 && !strings.Contains(clients, "name=redis-janitor") {
			return usedMemory(t, c)
		}
		time.Sleep(time.Millisecond)
	}
}

// buffers is what the connections of a run may weigh, which it sees as memory in use.
const buffers = mb / 4

// anyAge is a family of which everything may go at every level, keys without TTL too.
func anyAge(name, match string, lifetime time.Duration) janitor.Family {
	rule := ttlpolicy.Rule{Family: name, Lifetime: lifetime, EvictNoTTL: true, OlderThan: map[ttlpolicy.Level]time.Duration{}}
	for _, l := range ttlpolicy.Levels() {
		rule.OlderThan[l] = 0
	}
	return janitor.Family{Name: name, Match: []string{match}, Rule: rule}
}

// cleaning has a policy of these families clean up under a limit, held back by no gate.
func cleaning(limit int64, families ...janitor.Family) func(*janitor.Request) {
	return func(r *janitor.Request) {
		p := janitor.Defaults()
		p.Name = "test"
		p.Memory.Limit = janitor.Limit{Bytes: limit}
		p.Busy.UsersFrom = "none"
		p.Cooldown = 0
		p.Families = families
		r.Policy = p
	}
}
