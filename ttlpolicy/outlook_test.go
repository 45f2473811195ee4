package ttlpolicy

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// crowd is a keyspace of which only TTLs matter; nobody writes to it.
type crowd []Facts

// look draws a census at a moment, as RANDOMKEY would: of what is alive.
func (c crowd) look(rules []Rule, level Level, at time.Duration, draws int, random *rand.Rand) *Census {
	var alive []Facts
	for _, f := range c {
		if f.Expiry == Persistent {
			alive = append(alive, f)
		} else if f.TTL > at {
			f.TTL -= at
			alive = append(alive, f)
		}
	}
	census := NewCensus(level, rules)
	if draws == 0 || draws >= len(alive) {
		census.Population(int64(len(alive)), true)
		census.Look(len(alive))
		for _, f := range alive {
			census.Add(0, f, 100, 0)
		}
		return census
	}
	census.Population(int64(len(alive))+int64(len(c)), false)
	for range draws {
		census.Look(1)
		// As many strangers as there ever were keys.
		if i := random.IntN(len(alive) + len(c)); i < len(alive) {
			census.Add(0, alive[i], 100, 0)
		}
	}
	return census
}

func compared(then, now *Census, between time.Duration) Shift {
	return now.Compare(0, then.Outlook(0), then.Sample(), now.Sample(), between, 0)
}

func crowdOf(n int, longest time.Duration, random *rand.Rand) crowd {
	c := make(crowd, n)
	for i := range c {
		c[i] = Facts{Expiry: Expiring, TTL: time.Duration(random.Int64N(int64(longest))) + 1}
		if random.IntN(10) == 0 {
			c[i] = Facts{Expiry: Persistent}
		}
	}
	return c
}

func TestAQuietKeyspaceHasNotMovedHoweverItIsSampledAndWhatExpires(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 9))
	const trials = 4000
	moved := map[bool]int{}
	for trial := range trials {
		rule := Rule{Family: "f", Lifetime: time.Hour, EvictNoTTL: random.IntN(2) == 0,
			OlderThan: map[Level]time.Duration{Force: time.Duration(random.IntN(60)) * time.Minute}}
		// From a handful of keys, of which a sample sees one or none, to many; TTLs up to twice the lifetime.
		c := crowdOf(1+random.IntN(1<<(2+random.IntN(10))), time.Duration(1+random.IntN(120))*time.Minute, random)
		draws := 0
		if trial%2 == 1 {
			draws = 1 + random.IntN(500)
		}
		between := time.Duration(random.IntN(1800)) * time.Second
		then, now := c.look([]Rule{rule}, Force, 0, draws, random), c.look([]Rule{rule}, Force, between, draws, random)
		if s := compared(then, now, between); s.Moved {
			if moved[draws > 0]++; draws == 0 {
				t.Errorf("every key was counted, after %s: %+v", between, s)
			}
		}
	}
	// By the interval alone, one in a thousand.
	if moved[true] > 4 {
		t.Errorf("%d of %d samples of a quiet keyspace say that it moved", moved[true], trials/2)
	}
}

func TestAKeyspaceThatGrewOrShrankByMoreThanSamplesExplainHasMoved(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	rule := Rule{Family: "f", Lifetime: time.Hour, OlderThan: map[Level]time.Duration{Force: 0}}
	for _, draws := range []int{0, 20_000} {
		for _, c := range []struct {
			share float64
			moved bool
		}{{0, true}, {0.5, true}, {0.85, true}, {0.98, false}, {1, false}, {1.02, false}, {1.15, true}, {2, true}} {
			all := crowdOf(100_000, 30*time.Minute, random)
			before, after := all[:50_000], all[:int(50_000*c.share)]
			then := before.look([]Rule{rule}, Force, 0, draws, random)
			now := after.look([]Rule{rule}, Force, time.Minute, draws, random)
			if s := compared(then, now, time.Minute); s.Moved != c.moved {
				t.Errorf("%d draws, times %.2f: %+v", draws, c.share, s)
			}
		}
	}
}

func TestWhatIsProtectedOrUnknownIsNotExpectedToGo(t *testing.T) {
	rule := Rule{Family: "f", Lifetime: time.Hour, MinIdle: time.Hour, OlderThan: map[Level]time.Duration{Force: 30 * time.Minute}}
	c := NewCensus(Force, []Rule{rule})
	for _, f := range []Facts{
		{Expiry: Expiring, TTL: time.Minute, Protected: true}, {}, {Expiry: Persistent}, {Expiry: Missing},
		{Expiry: Expiring, TTL: 20 * time.Minute},   // idle or not
		{Expiry: Expiring, TTL: 40 * time.Minute},   // in ten minutes
		{Expiry: Expiring, TTL: 3000 * time.Minute}, // not within the hour
	} {
		c.Look(1)
		c.Add(0, f, 1, 0)
	}
	o := c.Outlook(0)
	for after, want := range map[time.Duration]hits{0: {1, 1, 1}, 15 * time.Minute: {2, 2, 2}, 25 * time.Minute: {1, 1, 1}, 95 * time.Minute: {0, 0, 1}} {
		if got := o.at(rule, Force, after); got != want {
			t.Errorf("after %s: %+v, want %+v (%v)", after, got, want, o)
		}
	}
	text, err := o.Due.MarshalText()
	if err != nil || string(text) != "239:1" {
		t.Errorf("due is written as %q: %v", text, err)
	}
	var read Bins
	if err := read.UnmarshalText(text); err != nil || !slices.Equal(read, o.Due) {
		t.Errorf("%q is read as %v: %v", text, read, err)
	}
	for _, wrong := range []string{"x", "1", "1:", ":1", "1:-1", "-1:1", "1440:1", "1:2:3", "99999999999999999999:1"} {
		if err := read.UnmarshalText([]byte(wrong)); err == nil {
			t.Errorf("%q is read as %v", wrong, read)
		}
	}
	if o := NewCensus(Cleanup, []Rule{rule}).Outlook(0); len(o.Due)+len(o.Young) > 0 {
		t.Errorf("a level without a rule: %+v", o)
	}
}
