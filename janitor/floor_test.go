package janitor_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
)

// keeping is a family that keeps so many of its newest keys.
func keeping(f janitor.Family, newest int) janitor.Family {
	f.Rule.KeepNewest = newest
	return f
}

func TestAtLeastSoManyOfTheNewestStay(t *testing.T) {
	hour := func(prefix string, n int) stock {
		return evenly(prefix, n, 10*time.Minute, time.Hour, bytesEach(200))
	}
	for _, tt := range []struct {
		name     string
		stock    stock
		keep     int
		together int // keys so near in age to the floor's last that they stay with it
	}{
		{"of fewer keys than a sample draws", hour("first:", 10_000), 100, 5},
		{"of more keys than a sample draws", hour("first:", 29_000), 5_000, 10},
		{"all where there are no more", hour("first:", 100), 100, 0},
		{"all where there are fewer", hour("first:", 100), 1_000_000, 0},
		{"where keys without TTL go", append(hour("first:", 1_000), forever("first:forever:", 500, 200)...), 100, 2},
		{"and keys without TTL where others are too few", append(hour("first:", 90), forever("first:forever:", 500, 200)...), 100, 500},
		{"all of one age, which can't be told apart", evenly("first:", 1_000, time.Hour, time.Hour, bytesEach(200)), 100, 900},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startLean(t)
			c := s.Client()
			fill(t, s, writeString, tt.stock)
			cleaning := cleaning(settledMemory(t, c)*100/95, keeping(first, tt.keep))

			plan := clean(t, s, cleaning, noTarget, command(janitor.Plan)).Nodes[0].Families[0].Estimate
			rehearsed := clean(t, s, fast, cleaning, noTarget, command(janitor.DryRun))
			r := clean(t, s, fast, cleaning, noTarget)
			left := keysOf(t, c)

			byAge := slices.SortedStableFunc(slices.Values(tt.stock), func(a, b entry) int { return b.expiry.Compare(a.expiry) })
			for _, e := range byAge[:min(tt.keep, len(byAge))] {
				if !left[e.key] {
					t.Fatalf("%s is one of the %d newest, and gone", e.key, tt.keep)
				}
			}
			stay := min(tt.keep, len(byAge))
			if stayed := len(byAge) - tt.stock.gone(left); stayed > stay+tt.together {
				t.Errorf("%d keys stayed, want %d", stayed, stay)
			}
			if off := rehearsed.Totals.Evicted - r.Totals.Evicted; off > int64(tt.together) || -off > int64(tt.together) {
				t.Errorf("the dry run evicts %d keys, execute %d", rehearsed.Totals.Evicted, r.Totals.Evicted)
			}
			stayed := int64(len(byAge) - tt.stock.gone(left))
			if f := r.Nodes[0].Families[0]; f.Kept.Newest < stayed || f.Kept.Newest > stayed+twice || f.Evicted != int64(tt.stock.gone(left)) {
				t.Errorf("%d keys went: %+v", tt.stock.gone(left), f)
			}
			if few := r.Totals.Evicted/10 + int64(tt.together); plan.EligibleLow > r.Totals.Evicted+few || plan.EligibleHigh < r.Totals.Evicted-few || plan.Evict != plan.Eligible {
				t.Errorf("plan: %+v, and %d went", plan, r.Totals.Evicted)
			}
		})
	}
}

func TestAFloorHoldsThoughTheServerAnswersSlowerWhileKeysAreCounted(t *testing.T) {
	const n, keep = 12_000, 6_000
	lifetime := 100 * time.Second // its bands are so narrow that a slow answer would move keys from one to another
	s := startLean(t)
	p := redistest.Proxy(t, s.Addr)
	fill(t, s, writeString, evenly("first:", n, lifetime*6/10, lifetime-time.Second, bytesEach(100)))
	p.SetDelay(50 * time.Millisecond)
	begun := atomic.Int32{}
	p.Answer(func(cmd []string) (string, bool) {
		if strings.EqualFold(cmd[0], "scan") && cmd[1] == "0" && begun.Add(1) == 2 {
			p.SetDelay(0) // the keys have been counted, and what is deleted is decided on now
		}
		return "", false
	})
	r := clean(t, s, fast, cleaning(settledMemory(t, s.Client())*100/95, keeping(anyAge("first", "first:*", lifetime), keep)), noTarget,
		func(r *janitor.Request) { r.Connection.URLs = []string{"redis://" + p.Addr} })
	expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
	if left := dbSize(t, s.Client()); left < keep || left > keep+keep/10 {
		t.Errorf("%d keys stayed, want %d", left, keep)
	}
}

func TestAFloorSendsTheNeedOnToTheNextFamily(t *testing.T) {
	for name, n := range map[string]int{"counted": 4_000, "sampled": 14_500} {
		t.Run(name, func(t *testing.T) {
			s := startLean(t)
			c := s.Client()
			stocks := []stock{
				evenly("first:", n, 10*time.Minute, time.Hour, bytesEach(1000)),
				evenly("second:", n, 10*time.Minute, time.Hour, bytesEach(1000)),
			}
			fill(t, s, writeString, stocks...)
			// The need is near a third of all, and of the first half four fifths must stay.
			cleaning := cleaning(settledMemory(t, c)*100/80, keeping(first, n*4/5), second)
			plan := clean(t, s, cleaning, command(janitor.Plan)).Nodes[0].Families
			r := clean(t, s, fast, cleaning)
			expect(t, r, janitor.Evicted, janitor.TargetReached, 0)
			left := keysOf(t, c)
			if gone := stocks[0].gone(left); gone > n/5 || gone < n/5-10 {
				t.Errorf("%d of the first family's %d went, want %d", gone, n, n/5)
			}
			for i, family := range stocks {
				gone := int64(family.gone(left))
				if wrong := family.outOfOrder(left); wrong > n/100+buffers/1000 {
					t.Errorf("of family %d, %d keys went before older ones", i, wrong)
				}
				// What connections weigh is made up for by keys of a kilobyte of the last family.
				few := 50 + int64(i)*buffers/1000
				if evict := plan[i].Estimate.Evict; evict < gone*9/10-few || evict > gone*11/10+few {
					t.Errorf("plan takes %d keys of family %d, execute %d", evict, i, gone)
				}
			}
		})
	}
}

// restored writes entries that have not been used for so long.
func restored(payload string, idle time.Duration) writer {
	return func(ctx context.Context, p redis.Pipeliner, e entry) {
		p.Do(ctx, "RESTORE", e.key, e.expiry.UnixMilli(), payload, "ABSTTL", "IDLETIME", int64(idle.Seconds()))
	}
}

// payload is a value as RESTORE takes it.
func payload(t *testing.T, c *redis.Client) string {
	t.Helper()
	do(t, c, []any{"SET", "model", strings.Repeat("v", 200)})
	dump, err := c.Dump(t.Context(), "model").Result()
	if err != nil {
		t.Fatal(err)
	}
	do(t, c, []any{"DEL", "model"})
	return dump
}

// idle is a family of which only goes what was not used for so long.
func idle(f janitor.Family, d time.Duration) janitor.Family {
	f.Rule.MinIdle = d
	return f
}

func TestAKeyThatWasUsedLatelyStaysAndLookingAtItIsNoUse(t *testing.T) {
	for name, n := range map[string]int{"counted": 2_000, "sampled": 14_000} {
		t.Run(name, func(t *testing.T) {
			s := startLean(t)
			c := s.Client()
			value := payload(t, c)
			unused := evenly("first:unused:", n, 10*time.Minute, time.Hour, bytesEach(200))
			used := evenly("first:used:", n, 10*time.Minute, time.Hour, bytesEach(200))
			others := evenly("second:", 200, 10*time.Minute, time.Hour, bytesEach(200))
			fill(t, s, restored(value, 3*time.Hour), unused, others)
			fill(t, s, restored(value, 10*time.Minute), used)
			// Protected keys are looked at like all others.
			cleaning := cleaning(settledMemory(t, c)*100/95, idle(first, time.Hour), second)
			changes := func(command janitor.Command) *janitor.Report {
				return clean(t, s, fast, cleaning, noTarget, func(r *janitor.Request) { r.Command, r.Policy.Protect = command, []string{"second:*"} })
			}

			plan := changes(janitor.Plan).Nodes[0].Families[0].Estimate
			if plan.EligibleLow > int64(n) || plan.EligibleHigh < int64(n) {
				// One of twenty intervals may miss; twice its width is past that.
				if plan.Eligible < int64(n)*9/10 || plan.Eligible > int64(n)*11/10 {
					t.Errorf("plan: %+v, want %d eligible", plan, n)
				}
			}
			expect(t, changes(janitor.DryRun), janitor.Planned, janitor.Exhausted, 0)
			r := changes(janitor.Execute)
			expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
			left := keysOf(t, c)
			if unused.gone(left) != n || used.gone(left) != 0 || others.gone(left) != 0 {
				t.Errorf("%d of %d unused keys went, %d of the used, %d protected", unused.gone(left), n, used.gone(left), others.gone(left))
			}
			if f := r.Nodes[0].Families[0]; f.Evicted != int64(n) || f.Kept.NotIdle != int64(n) {
				t.Errorf("%+v", f)
			}
			for _, some := range []struct {
				stock stock
				idle  time.Duration
			}{{used, 10 * time.Minute}, {others, 3 * time.Hour}} {
				for i := 0; i < len(some.stock); i += 20 {
					if d := c.ObjectIdleTime(t.Context(), some.stock[i].key).Val(); d < some.idle {
						t.Fatalf("%s had not been used for %v, and now for %v", some.stock[i].key, some.idle, d)
					}
				}
			}
		})
	}
}

func TestWithAnEvictionPolicyThatKeepsNoIdleTimesARuleThatAsksForThemIsRefused(t *testing.T) {
	s := redistest.Start(t, "--maxmemory-policy", "allkeys-lfu")
	c := s.Client()
	fill(t, s, writeString, evenly("first:", 1_000, time.Minute, time.Hour, bytesEach(200)))
	cleaning := cleaning(settledMemory(t, c)*100/95, idle(first, time.Second))
	expect(t, clean(t, s, cleaning), janitor.Refused, janitor.Guard, 4)
	for _, looking := range []janitor.Command{janitor.Plan, janitor.DryRun} {
		r := clean(t, s, cleaning, command(looking))
		expect(t, r, janitor.Nothing, janitor.Exhausted, 0)
		expectWarning(t, r, "idle_unknown")
		if f := r.Nodes[0].Families[0]; looking == janitor.DryRun && f.Kept.Unknown != 1_000 {
			t.Errorf("%+v", f)
		}
	}
	if dbSize(t, c) != 1_000 {
		t.Errorf("%d keys left", dbSize(t, c))
	}
}
