package janitor_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/redistest"
)

// elements writes an entry as a value of so many elements of so many bytes.
func elements(kind string, bytes int) writer {
	return func(ctx context.Context, p redis.Pipeliner, e entry) {
		command := []any{kind, e.key}
		for i := range e.size {
			element := fmt.Sprintf("%06d%s", i, strings.Repeat("v", bytes-6))
			switch kind {
			case "HSET":
				command = append(command, fmt.Sprintf("field:%06d", i), element)
			case "ZADD":
				command = append(command, i, element)
			default:
				command = append(command, element)
			}
		}
		p.Do(ctx, command...)
		if !e.expiry.IsZero() {
			p.Do(ctx, "PEXPIREAT", e.key, e.expiry.UnixMilli())
		}
	}
}

func TestPlanForetellsTheBytesThatExecuteFrees(t *testing.T) {
	for _, tt := range []struct {
		name  string
		write writer
		keys  int
		size  int
		stay  float64 // share of keys that stay, where it is not half of them
	}{
		{"tiny strings", writeString, 58_000, 10, 0},
		{"strings", writeString, 29_000, 200, 0},
		{"large strings", writeString, 1_500, 20_000, 0},
		{"small hashes", elements("HSET", 20), 14_500, 10, 0},
		{"large hashes", elements("HSET", 30), 200, 600, 0},
		{"small lists", elements("RPUSH", 20), 14_500, 10, 0},
		{"large lists", elements("RPUSH", 30), 200, 2_000, 0},
		{"small sets", elements("SADD", 20), 14_500, 10, 0},
		{"large sets", elements("SADD", 30), 200, 500, 0},
		{"small sorted sets", elements("ZADD", 20), 14_500, 10, 0},
		{"large sorted sets", elements("ZADD", 30), 200, 500, 0},
		{"tiny strings, nearly all, so that the tables shrink", writeString, 58_000, 10, 0.03},
		{"small lists, nearly all", elements("RPUSH", 20), 29_000, 5, 0.03},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startLean(t)
			c := s.Client()
			stay := tt.keys / 2
			if tt.stay > 0 {
				stay = int(tt.stay * float64(tt.keys))
			}
			fill(t, s, tt.write, evenly("first:", tt.keys-stay, 10*time.Minute, time.Hour, bytesEach(tt.size)), evenly("others:", stay, 10*time.Minute, time.Hour, bytesEach(tt.size)))
			limit := settledMemory(t, c) * 100 / 95
			plan := clean(t, s, cleaning(limit, first), noTarget, command(janitor.Plan))
			before := settledMemory(t, c)
			expect(t, clean(t, s, fast, cleaning(limit, first), noTarget), janitor.Evicted, janitor.Exhausted, 0)
			e := plan.Nodes[0].Families[0].Estimate
			var freed float64
			off := func() float64 {
				freed = float64(before - settledMemory(t, c))
				return float64(e.Bytes)/freed - 1
			}
			// Redis shrinks a table step by step and gives it back at the end.
			for until := time.Now().Add(20 * time.Second); math.Abs(off()) > 0.05 && time.Now().Before(until); {
				continue
			}
			t.Logf("off by %+.1f %%", 100*off())
			if off := off(); math.Abs(off) > 0.05 {
				t.Errorf("plan foretells %d bytes, and %.0f are freed: it is off by %+.1f %%", e.Bytes, freed, 100*off)
			}
			if e.EvictBytes != e.Bytes || e.Evict != e.Eligible {
				t.Errorf("without a target all that is eligible should go: %+v", e)
			}
		})
	}
}

// populate makes a keyspace by a script: a large one needs no round trips. Of a hundred keys 60 belong to ml-results, 25
// to sessions, 5 to app-cache and 10 to nobody. TTLs lie evenly over each lifetime, but for its last minute.
func populate(t *testing.T, c *redis.Client, n int) {
	t.Helper()
	const script = `
local value = string.rep('v', 100)
for i = ARGV[1], ARGV[2] - 1 do
  local kind, share = i % 100, (i * 7919) % 10007 / 10007
  if kind < 60 then redis.call('SET', 'ml_results:'..i, value, 'PX', math.floor(60000 + 7140000 * share))
  elseif kind < 85 then redis.call('SET', 'combot_cache:1:django.contrib.sessions.cache'..i, value, 'PX', math.floor(60000 + 1740000 * share))
  elseif kind < 90 then redis.call('SET', 'combot_cache:1:views'..i, value, 'PX', math.floor(60000 + 3540000 * share))
  else redis.call('SET', 'others:'..i, value) end
end`
	for from := 0; from < n; from += 50_000 {
		if err := c.Eval(t.Context(), script, nil, from, min(from+50_000, n)).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
	}
}

func TestPlanSendsNoMoreCommandsToALargerKeyspace(t *testing.T) {
	var sent [2]int64
	for i, n := range []int{50_000, 500_000} {
		s := redistest.Start(t)
		c := s.Client()
		populate(t, c, n)
		// Also where nobody seems to be at work, which a sample of a large keyspace cannot tell.
		for _, within := range []time.Duration{5 * time.Minute, time.Millisecond} {
			s.ResetStats()
			r := clean(t, s, atRatio(t, c, 0.8), command(janitor.Plan), func(r *janitor.Request) { r.Policy.Busy.ActiveWithin = within })
			expect(t, r, janitor.Planned, janitor.TargetReached, 0)
			for name, calls := range s.CommandStats(t.Context()) {
				if name != "info" && name != "config|resetstat" {
					sent[i] += calls
				}
			}
			// Seven times the standard error of 20,000 drawn.
			ml := r.Nodes[0].Families[0].Estimate
			if truth := int64(n) * 60 / 100; ml.Eligible < truth*96/100 || ml.Eligible > truth*104/100 {
				t.Errorf("of %d keys, %d ml-results are estimated", n, ml.Eligible)
			}
		}
	}
	t.Logf("%d and %d commands", sent[0], sent[1])
	if sent[1] > sent[0]+sent[0]/100 {
		t.Errorf("%d commands for 50,000 keys, %d for ten times as many", sent[0], sent[1])
	}
}

func TestTheTruthLiesInPlansIntervals(t *testing.T) {
	s := startLean(t)
	c := s.Client()
	const n = 30_000
	stocks := []stock{
		evenly("first:", 12_000, time.Minute, time.Hour, bytesEach(100)),
		evenly("second:", 1_500, time.Minute, time.Hour, logNormal(300, 1)),
		evenly("third:", 150, time.Minute, time.Hour, bytesEach(3000)),
		evenly("others:", n-12_000-1_500-150, time.Minute, time.Hour, bytesEach(100)),
	}
	fill(t, s, writeString, stocks...)
	families := []janitor.Family{first, second, third}
	limit := settledMemory(t, c) * 100 / 95
	var truth []int64
	for _, family := range stocks[:3] {
		truth = append(truth, weigh(t, c, family))
	}
	const trials = 12
	outside := 0
	for range trials {
		plan := clean(t, s, cleaning(limit, families...), command(janitor.Plan))
		if !plan.Nodes[0].Sampled {
			t.Fatal("the keyspace was counted")
		}
		for i, f := range plan.Nodes[0].Families {
			e := f.Estimate
			if keys := int64(len(stocks[i])); keys < e.EligibleLow || keys > e.EligibleHigh {
				outside++
				t.Logf("%s: %d keys, estimated %d in [%d, %d]", f.Name, keys, e.Eligible, e.EligibleLow, e.EligibleHigh)
			}
			if bytes := truth[i]; bytes < e.BytesLow || bytes > e.BytesHigh {
				outside++
				t.Logf("%s: %d bytes, estimated %d in [%d, %d]", f.Name, bytes, e.Bytes, e.BytesLow, e.BytesHigh)
			}
			if wide := float64(e.EligibleHigh-e.EligibleLow) / float64(e.Eligible); wide > 0.6 {
				t.Errorf("%s: [%d, %d] says little", f.Name, e.EligibleLow, e.EligibleHigh)
			}
		}
	}
	// One of twenty may lie outside, and a family's two often do so together. That more than 18 of these 72 do is as likely
	// as one in a hundred thousand.
	if outside > 18 {
		t.Errorf("%d of %d intervals miss the truth", outside, trials*6)
	}
}

// weigh is what all strings of a family weigh.
func weigh(t *testing.T, c *redis.Client, family stock) (total int64) {
	t.Helper()
	info, err := c.Info(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	perKey, perExpire := keyspace.ParseInfo(info).Overhead()
	sizes, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for _, e := range family {
			p.MemoryUsage(t.Context(), e.key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range sizes {
		total += size.(*redis.IntCmd).Val() + int64(perKey+perExpire)
	}
	return total
}

func TestASmallKeyspaceIsCountedExactly(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	populate(t, c, 15_000)
	r := clean(t, s, atRatio(t, c, 0.8), command(janitor.Plan))
	n := r.Nodes[0]
	if ml := n.Families[0].Estimate; n.Sampled || ml.Matched != 9_000 || ml.Eligible != 9_000 || ml.EligibleLow != 9_000 || ml.EligibleHigh != 9_000 {
		t.Errorf("sampled %v: %+v", n.Sampled, ml)
	}
	var keys, bytes int64
	for _, bin := range n.Families[0].Histogram {
		keys, bytes = keys+bin.Keys, bytes+bin.Bytes
	}
	if keys != 9_000 || bytes != n.Families[0].Estimate.Bytes {
		t.Errorf("the histogram holds %d keys with %d bytes: %+v", keys, bytes, n.Families[0])
	}
}

func TestWhereRandomKeysMayNotBeDrawnTheFirstOfAScanHaveToDo(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	populate(t, c, 100_000)
	do(t, c, []any{"ACL", "SETUSER", "scanner", "on", "nopass", "allkeys", "+@all", "-randomkey"})
	s.ResetStats()
	r := clean(t, s, atRatio(t, c, 0.8), usersFrom("none"), asUser(s, "scanner"), command(janitor.Plan))
	expect(t, r, janitor.Planned, janitor.TargetReached, 0)
	expectWarning(t, r, "sample_not_random")
	// A table's order is a hash's, so that its first keys are a fair sample but for luck: thrice the interval's width.
	e := r.Nodes[0].Families[0].Estimate
	if truth := int64(60_000); truth < e.Eligible-3*(e.Eligible-e.EligibleLow) || truth > e.Eligible+3*(e.EligibleHigh-e.Eligible) {
		t.Errorf("%d eligible keys, estimated %+v", truth, e)
	}
	if calls := s.CommandStats(t.Context()); calls["pttl"] > 21_000 {
		t.Errorf("%d keys were looked at", calls["pttl"])
	}
}
