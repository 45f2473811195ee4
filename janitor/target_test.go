package janitor_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// shape is a keyspace of one or more families, in the order in which they are evicted.
type shape struct {
	name    string
	stocks  func() []stock
	write   writer
	largest int64 // bytes of the largest key, where that may matter beside 2 % of the limit
}

// writeHash writes an entry of so many fields: above 64 of them it is freed in the background.
func writeHash(ctx context.Context, p redis.Pipeliner, e entry) {
	command := []any{"HSET", e.key}
	for i := range e.size {
		command = append(command, "field:"+strconv.Itoa(i), strings.Repeat("v", 100))
	}
	p.Do(ctx, command...)
	p.Do(ctx, "PEXPIREAT", e.key, e.expiry.UnixMilli())
}

var shapes = []shape{
	{"small even values, fewer keys than a sample draws", func() []stock {
		return []stock{evenly("first:", 15_000, 10*time.Minute, time.Hour, bytesEach(1000))}
	}, writeString, 0},
	{"small even values, sampled", func() []stock {
		return []stock{evenly("first:", 29_000, 10*time.Minute, time.Hour, bytesEach(100))}
	}, writeString, 0},
	{"log-normal values", func() []stock {
		return []stock{evenly("first:", 29_000, 10*time.Minute, time.Hour, logNormal(200, 1.5))}
	}, writeString, 0},
	{"the young larger than the old", func() []stock {
		return []stock{evenly("first:", 29_000, 10*time.Minute, time.Hour, func(i int) int { return i / 25 })}
	}, writeString, 0},
	{"the old larger than the young", func() []stock {
		return []stock{evenly("first:", 29_000, 10*time.Minute, time.Hour, func(i int) int { return 1160 - i/25 })}
	}, writeString, 0},
	{"a few huge strings among small ones", func() []stock {
		return []stock{evenly("first:", 29_000, 10*time.Minute, time.Hour, func(i int) int {
			if i%1200 == 600 {
				return 10 * mb
			}
			return 100
		})}
	}, writeString, 13 * mb},
	{"hashes that are freed in the background", func() []stock {
		return []stock{evenly("first:", 800, 10*time.Minute, time.Hour, bytesEach(300))}
	}, writeHash, 0},
	{"all of one age", func() []stock {
		return []stock{evenly("first:", 29_000, time.Hour, time.Hour, bytesEach(200))}
	}, writeString, 0},
	{"all without TTL", func() []stock {
		return []stock{forever("first:", 29_000, 200)}
	}, writeString, 0},
	{"some without TTL", func() []stock {
		return []stock{append(evenly("first:", 24_000, 10*time.Minute, time.Hour, bytesEach(500)), forever("first:forever:", 5_000, 500)...)}
	}, writeString, 0},
	{"several families", func() []stock {
		return []stock{
			evenly("first:", 4_000, 10*time.Minute, time.Hour, bytesEach(500)),
			evenly("second:", 16_000, 10*time.Minute, time.Hour, logNormal(500, 0.5)),
			evenly("third:", 9_000, 10*time.Minute, time.Hour, bytesEach(500)),
		}
	}, writeString, 0},
}

var (
	first  = anyAge("first", "first:*", time.Hour)
	second = anyAge("second", "second:*", time.Hour)
	third  = anyAge("third", "third:*", time.Hour)
)

// aFew is the share of a family's keys that may go before older ones: a walk is stopped where memory is at the target,
// in the middle of what its last raise went too far.
const aFew = 0.01

// expectOldestFirst holds what is left against the order: families as they come, in each the oldest first, but for a
// share of its keys.
func expectOldestFirst(t *testing.T, stocks []stock, left map[string]bool, but float64) {
	t.Helper()
	stayed := 0.0
	for i, family := range stocks {
		few := but * float64(len(family))
		if wrong := family.outOfOrder(left); float64(wrong) > few {
			t.Errorf("of family %d, %d of %d keys went before older ones, want %.0f at most", i, wrong, len(family), few)
		}
		gone := family.gone(left)
		if gone > 0 && stayed > 0 {
			t.Errorf("%d keys of family %d went while earlier families had some left", gone, i)
		}
		if rest := float64(len(family) - gone); rest > few {
			stayed += rest
		}
	}
}

func TestExecuteReachesTheTargetOldestFirstAndDoesNotOvershoot(t *testing.T) {
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			s := startLean(t)
			c, stocks := s.Client(), shape.stocks()
			fill(t, s, shape.write, stocks...)
			limit := settledMemory(t, c) * 100 / 80
			cleaning := cleaning(limit, []janitor.Family{first, second, third}[:len(stocks)]...)
			slack := float64(shape.largest + buffers)

			planned := int64(0)
			for _, f := range clean(t, s, cleaning, command(janitor.Plan)).Nodes[0].Families {
				planned += f.Estimate.Evict
			}
			rehearsed := clean(t, s, fast, cleaning, command(janitor.DryRun))
			r := clean(t, s, fast, cleaning)
			expect(t, r, janitor.Evicted, janitor.TargetReached, 0)
			target, after := limit*55/100, settledMemory(t, c)
			if reported := r.Nodes[0].Memory.AfterBytes; reported > target+buffers || after > target {
				t.Errorf("memory is at %d, reported as %d, above the target of %d", after, reported, target)
			}
			if most := limit*2/100 + shape.largest + buffers; target-after > most {
				t.Errorf("memory is %d below the target, want %d at most", target-after, most)
			}
			if r.Nodes[0].Walks > 4 {
				t.Errorf("%d walks", r.Nodes[0].Walks)
			}
			expectOldestFirst(t, stocks, keysOf(t, c), aFew)

			expect(t, rehearsed, janitor.Planned, janitor.TargetReached, 0)
			freed, would := float64(r.Totals.FreedBytes), float64(rehearsed.Totals.FreedBytes)
			if math.Abs(freed-would) > 0.03*freed+slack {
				t.Errorf("the dry run frees %.0f bytes, execute %.0f", would, freed)
			}
			keys, would := float64(r.Totals.Evicted), float64(rehearsed.Totals.Evicted)
			if math.Abs(keys-would) > keys*(0.03+slack/freed) {
				t.Errorf("the dry run evicts %.0f keys, execute %.0f", would, keys)
			}
			// A sample of few huge keys says little of how many are needed.
			if even := shape.largest == 0; even && math.Abs(keys-float64(planned)) > keys*(0.08+slack/freed) {
				t.Errorf("plan takes %d keys, execute %.0f", planned, keys)
			}
		})
	}
}

func TestAHugeElementAmongManySmallOnesDoesNotCarryPastTheTarget(t *testing.T) {
	// Redis judges a value by some of its elements, which meet the huge one in all values of a server or in none.
	for name, fields := range map[string]int{"few enough to be counted": 20, "more than are looked at": 200} {
		t.Run(name, func(t *testing.T) {
			for range 3 { // each server has another order of its own
				s := startLean(t)
				c := s.Client()
				value := strings.Repeat("v", 20_000)
				fill(t, s, func(ctx context.Context, p redis.Pipeliner, e entry) {
					parts := []any{"HSET", e.key, "embedding", value}
					for i := range fields {
						parts = append(parts, "f"+strconv.Itoa(i), "v")
					}
					p.Do(ctx, parts...)
					p.PExpireAt(ctx, e.key, e.expiry)
				}, evenly("first:", 1500, 10*time.Minute, time.Hour, bytesEach(0)))
				limit := settledMemory(t, c) * 100 / 80
				expect(t, clean(t, s, fast, cleaning(limit, first)), janitor.Evicted, janitor.TargetReached, 0)
				if after, target := settledMemory(t, c), limit*55/100; after > target || target-after > limit*2/100+buffers {
					t.Errorf("memory is at %.1f %% of the limit, want 55", 100*float64(after)/float64(limit))
				}
			}
		})
	}
}

func TestAReadingThatOthersHideDoesNotCarryPastTheTarget(t *testing.T) {
	// Of a list Redis judges by the elements at its head, which here leaves out most of it.
	s := startLean(t, "--list-max-listpack-size", "1")
	c := s.Client()
	parts := append(slices.Repeat([]any{"v"}, 200), strings.Repeat("v", 20_000))
	fill(t, s, func(ctx context.Context, p redis.Pipeliner, e entry) {
		p.RPush(ctx, e.key, parts...)
		p.PExpireAt(ctx, e.key, e.expiry)
	}, evenly("first:", 1500, 10*time.Minute, time.Hour, bytesEach(0)))
	limit := settledMemory(t, c) * 100 / 80

	// When memory is read for the first time after a deletion, others have just written about as much as has gone. The
	// value is made there: of what a client sends a copy stays in its buffers for a while.
	p := redistest.Proxy(t, s.Addr)
	var written atomic.Bool
	p.Answer(func(cmd []string) (string, bool) {
		if !strings.EqualFold(cmd[0], "INFO") || written.Load() {
			return "", false
		}
		err := c.Eval(t.Context(), `if redis.call('DBSIZE') < tonumber(ARGV[1]) then return redis.call('SET', KEYS[1], string.rep('v', ARGV[2])) end`,
			[]string{"others:"}, 1500, 500_000).Err()
		switch {
		case err == nil:
			written.Store(true)
		case !errors.Is(err, redis.Nil):
			t.Errorf("writing meanwhile: %v", err)
		}
		return "", false
	})
	expect(t, clean(t, s, fast, cleaning(limit, first), through(p)), janitor.Evicted, janitor.TargetReached, 0)
	if !written.Load() {
		t.Error("nothing was written meanwhile")
	}
	if after, target := settledMemory(t, c), limit*55/100; after > target || target-after > limit*2/100+buffers {
		t.Errorf("memory is at %.1f %% of the limit, want 55", 100*float64(after)/float64(limit))
	}
}

func TestWhatTheAllocatorKeepsIsNotDeletedForAgain(t *testing.T) {
	s := startLean(t)
	c := s.Client()
	fill(t, s, writeString, evenly("first:", 40_000, 10*time.Minute, time.Hour, bytesEach(1000)))
	// INFO tells an RSS that is up to 100 ms old, and with it what the allocator had given out then.
	for until := time.Now().Add(20 * time.Second); infoNumber(t, c, "allocator_allocated") < infoNumber(t, c, "used_memory")-1<<20; {
		if time.Now().After(until) {
			t.Fatal("the server's count of its allocator's memory stays behind")
		}
	}
	limit := infoNumber(t, c, "used_memory_rss") * 100 / 80
	byRSS := func(r *janitor.Request) { r.Policy.Memory.Source = "rss" }
	expect(t, clean(t, s, fast, cleaning(limit, first), byRSS), janitor.Evicted, janitor.TargetReached, 0)
	left := dbSize(t, c)
	if left < 10_000 || left > 35_000 {
		t.Fatalf("%d keys left, want about 5 of 8", left)
	}
	for range 3 {
		if infoNumber(t, c, "used_memory_rss") < limit*6/10 {
			break // this allocator gives memory back, and there is nothing to ask
		}
		r := clean(t, s, fast, cleaning(limit, first), byRSS)
		expect(t, r, janitor.Nothing, janitor.TargetReached, 0)
		expectWarning(t, r, "rss_stays")
		if now := dbSize(t, c); now != left {
			t.Fatalf("of %d keys %d are left: they went for memory that was free", left, now)
		}
	}
}

// growing has a server grow by so many bytes with each page that a run scans, as long as it scans.
func growing(t *testing.T, s *redistest.Server, by int) func(*janitor.Request) {
	t.Helper()
	p, c := redistest.Proxy(t, s.Addr), s.Client()
	var n atomic.Int64
	p.Answer(func(cmd []string) (string, bool) {
		if strings.EqualFold(cmd[0], "SCAN") {
			if err := c.Set(t.Context(), "others:"+strconv.FormatInt(n.Add(1), 10), strings.Repeat("v", by), 0).Err(); err != nil {
				t.Errorf("growing: %v", err)
			}
		}
		return "", false
	})
	return through(p)
}

func TestTheTargetIsReachedAlthoughOthersWriteMeanwhile(t *testing.T) {
	s := startLean(t)
	c := s.Client()
	stocks := []stock{evenly("first:", 29_000, 10*time.Minute, time.Hour, bytesEach(300)), evenly("second:", 5_000, 10*time.Minute, time.Hour, bytesEach(300))}
	fill(t, s, writeString, stocks...)
	limit := settledMemory(t, c) * 100 / 80
	// A walk takes some 200 pages: it frees a quarter of the limit and others write a tenth of that.
	r := clean(t, s, fast, cleaning(limit, first, second), growing(t, s, int(limit/8000)))
	expect(t, r, janitor.Evicted, janitor.TargetReached, 0)
	if target, after := limit*55/100, settledMemory(t, c); after > target+limit*2/100 || after < target-limit*2/100 {
		t.Errorf("memory is at %d, for a target of %d", after, target)
	}
	if r.Nodes[0].Walks > 5 {
		t.Errorf("%d walks", r.Nodes[0].Walks)
	}
	// What others will write during a walk is guessed, and the guess may be too high.
	expectOldestFirst(t, stocks, keysOf(t, c), 0.03)
}

func TestARunEndsAlsoWhereOthersWriteMoreThanItCanFree(t *testing.T) {
	s := startLean(t)
	c := s.Client()
	stocks := []stock{evenly("first:", 8_000, 10*time.Minute, time.Hour, bytesEach(300)), evenly("second:", 8_000, 10*time.Minute, time.Hour, bytesEach(300))}
	fill(t, s, writeString, stocks...)
	limit := settledMemory(t, c) * 100 / 80
	r := clean(t, s, fast, cleaning(limit, first, second), growing(t, s, int(limit/20)))
	expect(t, r, janitor.Incomplete, janitor.Exhausted, 3)
	if r.Totals.Evicted != 16_000 || r.Nodes[0].Walks > 10 {
		t.Errorf("%d keys evicted in %d walks", r.Totals.Evicted, r.Nodes[0].Walks)
	}
}

func TestATargetThatCannotBeReachedIsToldBeforeAnythingIsDeleted(t *testing.T) {
	for _, tt := range []struct {
		name    string
		at      float64 // of the limit
		level   ttlpolicy.Level
		keys    int // that may go, of 60,000
		outcome janitor.Outcome
		exit    int
	}{
		{"still above the level's threshold", 0.80, ttlpolicy.Force, 2_000, janitor.Incomplete, 3},
		{"back below the level's threshold", 0.62, ttlpolicy.Cleanup, 4_000, janitor.Evicted, 0},
		{"nothing may go", 0.90, ttlpolicy.Critical, 0, janitor.Incomplete, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startLean(t)
			c := s.Client()
			fill(t, s, writeString, evenly("first:", tt.keys, 10*time.Minute, time.Hour, bytesEach(200)),
				evenly("others:", 60_000-tt.keys, 10*time.Minute, time.Hour, bytesEach(200)))
			limit := int64(float64(settledMemory(t, c)) / tt.at)
			cleaning := cleaning(limit, first)

			plan := clean(t, s, fast, cleaning, command(janitor.Plan))
			expectWarning(t, plan, "target_unreachable")
			if plan.Level != tt.level || dbSize(t, c) != 60_000 {
				t.Errorf("level %s, %d keys left", plan.Level, dbSize(t, c))
			}
			r := clean(t, s, fast, cleaning)
			outcome := tt.outcome
			if tt.keys == 0 && outcome == janitor.Evicted {
				outcome = janitor.Nothing
			}
			expect(t, r, outcome, janitor.Exhausted, tt.exit)
			expectWarning(t, r, "target_unreachable")
			missing, truth := plan.Nodes[0].Memory.MissingBytes, settledMemory(t, c)-limit*55/100
			if math.Abs(float64(missing-truth)) > 0.01*float64(limit) {
				t.Errorf("plan says that %d bytes are missing, and %d are", missing, truth)
			}
			if dbSize(t, c) != int64(60_000-tt.keys) {
				t.Errorf("%d keys left", dbSize(t, c))
			}
		})
	}
}

func TestLimitsLetTheOldestOfTheFirstFamiliesGo(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*janitor.Request)
		reason janitor.Reason
		keys   int64 // that go; 0: as many as have so many bytes
		bytes  int64
	}{
		"keys, of more than the first family":   {maxKeys(14_000), janitor.MaxKeys, 14_000, 0},
		"keys, without a target":                {func(r *janitor.Request) { noTarget(r); r.MaxKeys = 12_345 }, janitor.MaxKeys, 12_345, 0},
		"only a few keys":                       {maxKeys(10), janitor.MaxKeys, 10, 0},
		"bytes, of more than the first family":  {func(r *janitor.Request) { r.MaxBytes = 4 * mb }, janitor.MaxBytes, 0, 4 * mb},
		"keys and bytes, whichever comes first": {func(r *janitor.Request) { r.MaxBytes, r.MaxKeys = 2*mb, 1_000 }, janitor.MaxKeys, 1_000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := startLean(t)
			c := s.Client()
			stocks := []stock{
				evenly("first:", 10_000, 10*time.Minute, time.Hour, bytesEach(200)),
				evenly("second:", 20_000, 10*time.Minute, time.Hour, bytesEach(200)),
			}
			fill(t, s, writeString, stocks...)
			cleaning := cleaning(settledMemory(t, c)*100/95, first, second)
			rehearsed := clean(t, s, fast, cleaning, tt.change, command(janitor.DryRun))
			expect(t, rehearsed, janitor.Planned, tt.reason, 0)
			r := clean(t, s, fast, cleaning, tt.change)
			expect(t, r, janitor.Incomplete, tt.reason, 3)
			if r.Totals.Evicted != rehearsed.Totals.Evicted || math.Abs(float64(r.Totals.FreedBytes-rehearsed.Totals.FreedBytes)) > 100 {
				t.Errorf("the dry run evicts %d keys with %d bytes, execute %d with %d",
					rehearsed.Totals.Evicted, rehearsed.Totals.FreedBytes, r.Totals.Evicted, r.Totals.FreedBytes)
			}
			if tt.keys > 0 && r.Totals.Evicted != tt.keys {
				t.Errorf("%d keys went, want %d", r.Totals.Evicted, tt.keys)
			}
			if tt.bytes > 0 && (r.Totals.FreedBytes > tt.bytes || r.Totals.FreedBytes < tt.bytes-1000) {
				t.Errorf("%d bytes went, want %d", r.Totals.FreedBytes, tt.bytes)
			}
			expectOldestFirst(t, stocks, keysOf(t, c), aFew)
		})
	}
}
