package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// predictTrials is how many keyspaces the prediction is tried on.
const predictTrials = 100

// predictAge is the age from which a trial's keys go, of predictLifetime.
const (
	predictLifetime = 100 * time.Hour
	predictAge      = 50 * time.Hour
)

// trial is one prediction with its truth, in bytes.
type trial struct {
	kind             string
	bytes, low, high int64
	freed            int64
}

func (t trial) covered() bool { return t.low <= t.freed && t.freed <= t.high }

// off is by which share of the truth the prediction misses it.
func (t trial) off() float64 { return math.Abs(float64(t.bytes)/float64(t.freed) - 1) }

// even is a trial's keyspace: keys of one type whose elements are all alike.
type even struct {
	kind     string
	keys     int
	elements int
	length   int     // bytes of a string, or of an element
	share    float64 // of the keys that are old enough to go
}

func kinds() []string { return []string{"string", "hash", "list", "set", "zset"} }

// drawEven draws the keyspace of a trial. There are always more keys than a sample draws, or there would be nothing to
// predict: the janitor would count them.
func drawEven(kind string, random *rand.Rand) even {
	e := even{kind: kind, keys: 25_000 + random.IntN(45_000), elements: 1, length: 10 + random.IntN(50), share: 0.2 + 0.8*random.Float64()}
	if kind == "string" {
		e.length = int(math.Exp(math.Log(10) + random.Float64()*math.Log(200)))
		return e
	}
	e.elements = int(math.Exp(math.Log(2) + random.Float64()*math.Log(75)))
	e.keys = max(25_000, min(e.keys, 2_000_000/e.elements))
	return e
}

// fill writes the keyspace.
func (e even) fill(ctx context.Context, addr string, random *rand.Rand) error {
	b, err := dialBulk(ctx, addr)
	if err != nil {
		return err
	}
	text := noise(8 << 10)
	piece := func() []byte {
		at := random.IntN(len(text) - e.length)
		return text[at : at+e.length]
	}
	for i := range e.keys {
		name := evenName(i)
		switch e.kind {
		case "string":
			b.command(3)
			b.text("SET")
			b.text(name)
			b.word(piece())
		case "hash":
			b.command(2 + 2*e.elements)
			b.text("HSET")
			b.text(name)
			for j := range e.elements {
				b.text("field" + strconv.Itoa(1000+j))
				b.word(piece())
			}
		case "list":
			b.command(2 + e.elements)
			b.text("RPUSH")
			b.text(name)
			for range e.elements {
				b.word(piece())
			}
		case "set":
			b.command(2 + e.elements)
			b.text("SADD")
			b.text(name)
			for j := range e.elements {
				b.word([]byte(strconv.Itoa(1000+j)), piece())
			}
		case "zset":
			b.command(2 + 2*e.elements)
			b.text("ZADD")
			b.text(name)
			for j := range e.elements {
				b.number(int64(random.IntN(1e9)))
				b.word([]byte(strconv.Itoa(1000+j)), piece())
			}
		}
		age := time.Duration(random.Float64() * float64(predictAge-time.Hour))
		if random.Float64() < e.share {
			age = predictAge + time.Duration(random.Float64()*float64(predictLifetime-predictAge-time.Hour))
		}
		b.command(3)
		b.text("PEXPIRE")
		b.text(name)
		b.number((predictLifetime - age).Milliseconds())
	}
	// A table that is still growing gives its old half back in the middle of the trial. It grows on by a step with each
	// look: those for keys and those for expiries are two.
	for i := range e.keys {
		b.command(2)
		b.text("PTTL")
		b.text(evenName(i))
	}
	return b.close(ctx)
}

func evenName(i int) string { return "even:" + strconv.FormatUint(mix(uint64(i)), 16) }

const predictPolicy = `version: 1
name: prediction
busy: {users_over: 20, users_from: none}
families:
  - name: even
    match: ["even:*"]
    lifetime: 100h
    no_ttl: keep
    older_than: {force: 50h}
`

// prediction is what the scenario found.
type prediction []trial

// predicting repeats: fill, plan, execute, compare.
func (b *bench) predicting(ctx context.Context) (prediction, error) {
	policy := filepath.Join(b.dir, "predict.yaml")
	if err := os.WriteFile(policy, []byte(predictPolicy), 0o600); err != nil {
		return nil, err
	}
	s := startServer()
	defer s.close()
	var trials prediction
	for i := range predictTrials {
		kind := kinds()[i%len(kinds())]
		random := rand.New(rand.NewPCG(uint64(i), 4711))
		e := drawEven(kind, random)
		t, err := b.predict(ctx, s, policy, e, random)
		if err != nil {
			return nil, fmt.Errorf("trial %d (%+v): %w", i, e, err)
		}
		trials = append(trials, t)
		b.log("trial %d, %+v: predicted ÷ freed %.3f, covered %v", i+1, e, float64(t.bytes)/float64(t.freed), t.covered())
	}
	return trials, nil
}

func (b *bench) predict(ctx context.Context, s *server, policy string, e even, random *rand.Rand) (trial, error) {
	t := trial{kind: e.kind}
	if err := s.client.FlushAll(ctx).Err(); err != nil {
		return t, err
	}
	if err := e.fill(ctx, s.Addr, random); err != nil {
		return t, err
	}
	before, err := s.settledMemory(ctx)
	if err != nil {
		return t, err
	}
	args := []string{"--policy", policy, "--level", "force", "--target", "none"}
	_, out, err := measured(ctx, b.janitor(s.Addr, "plan", args...)...)
	if err != nil {
		return t, err
	}
	plan, err := readReport(out, "planned")
	if err != nil {
		return t, err
	}
	_, out, err = measured(ctx, b.janitor(s.Addr, "execute", append(args, "--pace", "fast", "--ignore-cooldown", "--yes")...)...)
	if err != nil {
		return t, err
	}
	if _, err := readReport(out, "evicted"); err != nil {
		return t, err
	}
	after, err := s.settledMemory(ctx)
	if err != nil {
		return t, err
	}
	estimate := plan.Nodes[0].Families[0].Estimate
	t.bytes, t.low, t.high, t.freed = estimate.Bytes, estimate.Low, estimate.High, before-after
	return t, nil
}

// settledMemory is what the keys take, once it stays the same: nothing waits to be freed, no table is being resized. The
// slow log is thrown away before: it keeps the words of each of its commands, on a slow machine of hundreds of batches.
func (s *server) settledMemory(ctx context.Context) (int64, error) {
	if err := s.client.SlowLogReset(ctx).Err(); err != nil {
		return 0, err
	}
	const noise = 4 << 10
	last, since := int64(math.MaxInt64), time.Now()
	for {
		info, err := s.info(ctx)
		if err != nil {
			return 0, err
		}
		used, _ := info.UsedMemory()
		buffers, _ := info.Int("mem_clients_normal") // of those who ask, this client too
		used -= buffers
		if d := used - last; d > noise || d < -noise || info.PendingFrees() > 0 {
			last, since = used, time.Now()
		} else if time.Since(since) > 400*time.Millisecond {
			return used, nil
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (trials prediction) section() section {
	var rows [][]string
	covered, worst := 0, 0.0
	for _, kind := range kinds() {
		n, in, within := 0, 0, 0
		var off []float64
		for _, t := range trials {
			if t.kind != kind {
				continue
			}
			n++
			if t.covered() {
				in++
			}
			if t.off() <= 0.05 {
				within++
			}
			off = append(off, 100*t.off())
			worst = max(worst, t.off())
		}
		covered += in
		s := spreadOf(off)
		rows = append(rows, []string{kind, fmt.Sprint(n), fmt.Sprint(within), fmt.Sprint(in), fmt.Sprintf("%.1f", s.Median), fmt.Sprintf("%.1f", s.Max)})
	}
	share := float64(covered) / float64(len(trials))
	return section{name: "predict", title: "What `plan` predicts, and what `execute` frees",
		goals: []goal{
			{"trials in which the 95 % interval holds the truth", "≥ 95 of 100", fmt.Sprintf("%d of %d", covered, len(trials)), share >= 0.95},
			{"the prediction misses what is freed by at most", "5 %", fmt.Sprintf("%.1f %%", 100*worst), worst <= 0.05},
		},
		text: `Each trial fills a keyspace with keys of one type and of even elements (their number, their length, the number of keys
and the share that is old enough to go are drawn anew), asks ` + "`plan`" + `, runs ` + "`execute`" + ` and compares what was predicted
with what used_memory then fell by.

` + table([]string{"type", "trials", "within 5 %", "interval holds", "off by, median %", "at most %"}, rows)}
}
