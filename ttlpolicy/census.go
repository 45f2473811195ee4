package ttlpolicy

import "time"

// Census is what a survey (a sample, or a whole walk) has learnt of one node's keyspace.
type Census struct {
	level      Level
	rules      []Rule
	looked     int64
	population int64
	exact      bool
}

func NewCensus(level Level, rules []Rule) *Census { return &Census{level: level, rules: rules} }

func (c *Census) Look(n int) { c.looked += int64(n) }

func (c *Census) Add(family int, f Facts, bytes float64, elapsed time.Duration) Verdict {
	return c.rules[family].Judge(c.level, f)
}

func (c *Census) Population(n int64, exact bool) { c.population, c.exact = n, exact }

type Estimate struct {
	Matched, Eligible, EligibleLow, EligibleHigh, Evict int64
	Bytes, BytesLow, BytesHigh                          int64
	EvictBytes                                          int64
}

func (c *Census) Estimate(family int, cut Cut) Estimate { return Estimate{} }

func (c *Census) ActiveWithin(family int, d time.Duration) (n, low, high float64) { return 0, 0, 0 }

func (c *Census) UnknownAge(family int) (n float64) { return 0 }

type Bin struct {
	From, To    time.Duration
	Keys, Bytes int64
}

func (c *Census) Bins(family, n int) []Bin { return nil }

func (c *Census) EligibleBytes() (est, low, high int64) { return 0, 0, 0 }

func (c *Census) Solve(need int64) (cuts []Cut, missing int64) {
	return c.SolveLow(need, 0), max(need, 0)
}

func (c *Census) SolveLow(need int64, slack float64) []Cut {
	cuts := make([]Cut, len(c.rules))
	for i := range cuts {
		cuts[i] = TakeNone()
	}
	return cuts
}

func (c *Census) KeepNewestCut(family int) (maxTTL time.Duration, persistent bool, ok bool) {
	return -1, false, false
}

type Lint struct{ Code, Family, Message string }

func (c *Census) Lints() []Lint { return nil }
