package janitor_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// ballastScript has a server hold so many keys of 16 KB besides, made there: what a client sends stays in its buffers.
const ballastScript = `
for i = 1, 10000 do if redis.call('DEL', 'ballast:'..i) == 0 then break end end
for i = 1, ARGV[1] do redis.call('SET', 'ballast:'..i, string.rep('b', 16000)) end`

// wave has memory go up and down with a run's readings: before the i-th it comes to shares[i] of the limit. After the last
// it stays. It returns how many were taken.
func wave(t *testing.T, s *redistest.Server, c *redis.Client, limit int64, shares []float64) (change func(*janitor.Request), taken func() int) {
	t.Helper()
	bare := float64(usedMemory(t, c))
	p := redistest.Proxy(t, s.Addr)
	var readings atomic.Int64
	p.Answer(func(cmd []string) (string, bool) {
		if !strings.EqualFold(cmd[0], "INFO") {
			return "", false
		}
		if n := int(readings.Add(1)) - 1; n < len(shares) {
			keys := int((shares[n]*float64(limit) - bare) / 16_500)
			if err := c.Eval(t.Context(), ballastScript, nil, keys).Err(); err != nil && !errors.Is(err, redis.Nil) {
				t.Errorf("changing memory: %v", err)
			}
		}
		return "", false
	})
	return through(p), func() int { return int(readings.Load()) }
}

func TestAsManyReadingsAsAskedForMustAgreeAndTheLowestCounts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		shares []float64
		level  ttlpolicy.Level
	}{
		{"a peak that passes", []float64{0.9, 0.5, 0.9}, ttlpolicy.OK},
		{"a peak that passes late", []float64{0.9, 0.9, 0.5}, ttlpolicy.OK},
		{"one that only comes up", []float64{0.5, 0.9, 0.9}, ttlpolicy.OK},
		{"a higher level that passes", []float64{0.9, 0.65, 0.65}, ttlpolicy.Cleanup},
		{"all agree", []float64{0.83, 0.76, 0.84}, ttlpolicy.Force},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startLean(t)
			c := s.Client()
			fill(t, s, writeString, evenly("first:", 5_000, 10*time.Minute, time.Hour, bytesEach(1000)))
			limit := usedMemory(t, c) * 100 / 40
			waving, taken := wave(t, s, c, limit, tt.shares)
			r := clean(t, s, cleaning(limit, first), waving, func(r *janitor.Request) {
				r.Policy.Memory.Readings, r.Policy.Memory.Every = len(tt.shares), 5*time.Millisecond
			})
			if r.Level != tt.level {
				t.Errorf("level %s, want %s", r.Level, tt.level)
			}
			lowest := min(tt.shares[0], tt.shares[1], tt.shares[2])
			if ratio := r.Nodes[0].Memory.Ratio; tt.level == ttlpolicy.OK && (ratio < lowest-0.03 || ratio > lowest+0.03) {
				t.Errorf("it goes by %.2f of the limit, and the lowest reading is %.2f", ratio, lowest)
			}
			if tt.level == ttlpolicy.OK {
				expect(t, r, janitor.Nothing, janitor.BelowThreshold, 0)
				if left := countKeys(t, c, "first:*"); taken() != len(tt.shares) || left != 5_000 {
					t.Errorf("%d readings were taken, %d keys are left", taken(), left)
				}
				return
			}
			if r.Totals.Evicted == 0 {
				t.Errorf("nothing was evicted: %s", r.Message)
			}
			// A dry run goes by its first readings, and there too by the lowest of them.
			if err := c.Eval(t.Context(), ballastScript, nil, 0).Err(); !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			waving, _ = wave(t, s, c, limit, tt.shares)
			dry := clean(t, s, cleaning(limit, first), waving, command(janitor.DryRun), func(r *janitor.Request) {
				r.Policy.Memory.Readings, r.Policy.Memory.Every = len(tt.shares), 5*time.Millisecond
			})
			if ratio := dry.Nodes[0].Memory.Ratio; ratio < lowest-0.03 || ratio > lowest+0.03 {
				t.Errorf("it goes by %.2f of the limit, and the lowest reading is %.2f", ratio, lowest)
			}
		})
	}
}
