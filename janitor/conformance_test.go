package janitor_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/demo/embedded"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// place is a Redis to run the same things on.
type place struct {
	url    string
	client *redis.Client
}

func realPlace(t *testing.T) place {
	s := redistest.Start(t)
	return place{s.URL(), s.Client()}
}

func embeddedPlace(t *testing.T) place {
	s, err := embedded.NewServer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	options, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	options.DisableIdentity = true
	c := redis.NewClient(options)
	t.Cleanup(func() { c.Close() })
	return place{s.URL(), c}
}

// behaviour is something to do on both, and what of it must be the same.
type behaviour struct {
	name    string
	prepare func(t *testing.T, c *redis.Client)
	change  []func(*janitor.Request)
}

// stocked are a few hundred keys of all families and of none, with a TTL of its own for each.
func stocked(t *testing.T, c *redis.Client) {
	t.Helper()
	plant(t, c, func(p *planter) {
		for i := range 100 {
			p.put(i, "ml_results:"+strconv.Itoa(i), mlAges.ttl(i))
			p.put(i, "combot_cache:1:"+strconv.Itoa(i), appAges.ttl(i))
			p.put(i, sessionPrefix+strconv.Itoa(i), sessionAges.ttl(i))
			p.put(i, "user:"+strconv.Itoa(i), mlAges.ttl(i))
			p.put(i, "celery-task-meta-"+strconv.Itoa(i), never)
		}
		for i, name := range awkward {
			p.put(i, "ml_results:"+name, time.Hour)
			p.put(i, "ml_results;"+name, time.Hour)
		}
	})
}

func minIdle(r *janitor.Request) {
	for i := range r.Policy.Families {
		r.Policy.Families[i].Rule.MinIdle = time.Minute
	}
}

func keepNewest(r *janitor.Request) { r.Policy.Families[0].Rule.KeepNewest = 20 }

var behaviours = []behaviour{
	{name: "plan", prepare: stocked, change: []func(*janitor.Request){command(janitor.Plan), atLevel(ttlpolicy.Force), calm, noTarget}},
	{name: "dry-run", prepare: stocked, change: []func(*janitor.Request){command(janitor.DryRun), atLevel(ttlpolicy.Force), calm, noTarget}},
	{name: "cleanup", prepare: stocked, change: []func(*janitor.Request){atLevel(ttlpolicy.Cleanup), calm, noTarget}},
	{name: "force", prepare: stocked, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget}},
	{name: "critical", prepare: stocked, change: []func(*janitor.Request){atLevel(ttlpolicy.Critical), calm, noTarget}},
	{name: "critical, by a waterline", prepare: stocked, change: []func(*janitor.Request){atLevel(ttlpolicy.Critical), calm, byWaterline}},
	{name: "the oldest few", prepare: stocked, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget, maxKeys(40)}},
	{name: "all but the newest", prepare: stocked, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget, keepNewest}},
	{name: "protected", prepare: stocked, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget,
		func(r *janitor.Request) { r.Policy.Protect = append(r.Policy.Protect, "ml_results:1*", "*[5-9]") }}},
	{name: "busy", prepare: func(t *testing.T, c *redis.Client) {
		plant(t, c, func(p *planter) {
			for i := range 30 {
				p.set(sessionPrefix+strconv.Itoa(i), 29*time.Minute)
			}
		})
	}, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), noTarget}},
	{name: "users by a set", prepare: func(t *testing.T, c *redis.Client) {
		for i := range 30 {
			do(t, c, []any{"SADD", "online", i})
		}
	}, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), noTarget, func(r *janitor.Request) { r.Policy.Busy.UsersFrom = "key:online" }}},
	{name: "cooling down", prepare: func(t *testing.T, c *redis.Client) {
		stocked(t, c)
		do(t, c, []any{"SET", cooldownKey, "x", "PX", 60_000})
	}, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), noTarget, ignoreBusy}},
	{name: "another janitor at work", prepare: func(t *testing.T, c *redis.Client) {
		stocked(t, c)
		do(t, c, []any{"HSET", leaseKey, "token", "a", "holder", "b", "since", "c"}, []any{"PEXPIRE", leaseKey, 60_000})
	}, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget}},
	{name: "an application's key under the lease's name", prepare: func(t *testing.T, c *redis.Client) {
		stocked(t, c)
		do(t, c, []any{"RPUSH", leaseKey, "a"})
	}, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget}},
	{name: "nothing to do", prepare: stocked, change: []func(*janitor.Request){calm}},
	{name: "an empty server", prepare: func(*testing.T, *redis.Client) {}, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget}},

	{name: "idle times", prepare: stocked, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget, minIdle}},
	{name: "pages", prepare: func(t *testing.T, c *redis.Client) {
		plant(t, c, func(p *planter) {
			for i := range 3000 {
				p.set("ml_results:"+strconv.Itoa(i), time.Hour)
			}
			// With these the table is never nearly empty: Redis would shrink it, and SCAN return a key twice.
			for i := range 1000 {
				p.set("user:"+strconv.Itoa(i), time.Hour)
			}
		})
	}, change: []func(*janitor.Request){atLevel(ttlpolicy.Force), calm, noTarget, func(r *janitor.Request) { r.Policy.Memory.Limit = janitor.Limit{Bytes: 1 << 30} }}},
}

// outcome is what of a run must be the same wherever it took place: all counts, what is left, and what was warned of.
func outcome(t *testing.T, p place, b behaviour) (string, *janitor.Report) {
	t.Helper()
	b.prepare(t, p.client)
	change := append(slices.Clone(b.change), func(r *janitor.Request) { r.Connection.URLs = []string{p.url} })
	r := cleanOn(t.Context(), t, t.TempDir(), &redistest.Server{Addr: p.client.Options().Addr}, change...)
	var text strings.Builder
	fmt.Fprintln(&text, r.Outcome, r.Reason, r.ExitCode, r.Level)
	for _, n := range r.Nodes {
		for _, f := range n.Families {
			fmt.Fprintln(&text, f.Name, f.Matched, f.Eligible, f.Evicted, f.Refreshed, f.Vanished, f.Failed, f.Uncertain, f.Kept)
			if e := f.Estimate; e.EligibleLow == e.EligibleHigh { // elsewhere by chance, of what keys were drawn
				fmt.Fprintln(&text, f.Name, e.Matched, e.Eligible)
			}
		}
	}
	for _, w := range r.Warnings {
		if w.Code != "backed_off" && w.Code != "rss_stays" { // the machine's, not the server's
			fmt.Fprintln(&text, "warning", w.Code, w.Family)
		}
	}
	left, err := p.client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(left)
	for _, key := range left {
		fmt.Fprintf(&text, "left %.60q\n", key)
	}
	return text.String(), r
}

// missing are the lines of a text that another one does not have.
func missing(text, other string) (lines string) {
	for line := range strings.Lines(text) {
		if !strings.Contains("\n"+other, "\n"+line) {
			lines += line
		}
	}
	return lines
}

func TestARunComesToTheSameOnTheEmbeddedRedisAndARealOne(t *testing.T) {
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) {
			onReal, realReport := outcome(t, realPlace(t), b)
			fake, fakeReport := outcome(t, embeddedPlace(t), b)
			if onReal != fake {
				t.Errorf("only on a real server:\n%s\nonly on the embedded one:\n%s", missing(onReal, fake), missing(fake, onReal))
			}
			expectRoundTrip(t, realReport)
			expectRoundTrip(t, fakeReport)
		})
	}
}

// What the embedded Redis does in another way, so that it is shown on real servers only.
func TestTheEmbeddedRedisDiffersWhereItIsSaidTo(t *testing.T) {
	ask := func(command ...any) func(*testing.T, *redis.Client) string {
		return func(t *testing.T, c *redis.Client) string {
			answer, err := c.Do(t.Context(), command...).Result()
			return fmt.Sprint(answer, err)
		}
	}
	for what, show := range map[string]func(*testing.T, *redis.Client) string{
		"its only page has all keys": ask("SCAN", 0, "COUNT", 10),
		"it is never out of memory":  ask("CONFIG", "SET", "maxmemory", "1mb"),
		"it has no users":            ask("ACL", "WHOAMI"),
		"it is nobody's replica":     ask("REPLICAOF", "NO", "ONE"),
		"it takes no snapshots":      ask("LASTSAVE"),
		"a ? takes a whole letter":   ask("KEYS", "ml_results:?"),
		"its memory is a model": func(t *testing.T, c *redis.Client) string {
			return strconv.FormatInt(infoNumber(t, c, "used_memory"), 10)
		},
	} {
		t.Run(what, func(t *testing.T) {
			var said [2]string
			for i, p := range []place{realPlace(t), embeddedPlace(t)} {
				plant(t, p.client, func(p *planter) {
					p.set("ml_results:é", never)
					for i := range 300 {
						p.set("user:"+strconv.Itoa(i), never)
					}
				})
				said[i] = show(t, p.client)
			}
			if said[0] == said[1] {
				t.Errorf("both say %s", said[0])
			}
		})
	}
}

// expectRoundTrip holds that a report read back from its JSON says the same, field by field.
func expectRoundTrip(t *testing.T, r *janitor.Report) {
	t.Helper()
	written, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	back := new(janitor.Report)
	decoder := json.NewDecoder(bytes.NewReader(written))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(back); err != nil {
		t.Fatalf("%v: %s", err, written)
	}
	again, err := json.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, again) {
		t.Errorf("it was\n%s\nand came back as\n%s", written, again)
	}
	want := *r
	want.StartedAt = back.StartedAt // the same moment, as the JSON above shows, and another monotonic clock
	if !reflect.DeepEqual(&want, back) {
		t.Errorf("it was\n%+v\nand came back as\n%+v", want, back)
	}
}

// fillIn gives everything a value that is not its zero, so that none can be lost without being missed.
func fillIn(v reflect.Value, n *int64) {
	*n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(*n, *n).UTC()
		return
	case *ttlpolicy.Level:
		*x = ttlpolicy.Levels()[*n%3]
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillIn(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fillIn(v.Index(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillIn(v.Elem(), n)
	case reflect.String:
		v.SetString("word \x1b\u2028<&> " + strconv.FormatInt(*n, 10))
	case reflect.Int, reflect.Int64:
		v.SetInt(*n)
	case reflect.Float64:
		v.SetFloat(float64(*n) / 3)
	case reflect.Bool:
		v.SetBool(true)
	default:
		panic("no value for a " + v.Type().String())
	}
}

func TestAReportLosesNothingAsJSON(t *testing.T) {
	var r janitor.Report
	n := int64(0)
	fillIn(reflect.ValueOf(&r).Elem(), &n)
	expectRoundTrip(t, &r)
}
