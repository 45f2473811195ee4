package policyfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestTheBuiltInPolicyIsShownAsInTheGoldenFile(t *testing.T) {
	const golden = "../../testdata/policies/show-combot.yaml"
	got := Format(janitor.Combot())
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func checkRoundTrip(t *testing.T, p janitor.Policy) {
	t.Helper()
	shown := Format(p)
	back, err := Parse("shown.yaml", shown)
	if err != nil {
		t.Fatalf("%v\n%s", err, shown)
	}
	document, err := JSON(p)
	if err != nil || !json.Valid(document) {
		t.Fatalf("%v: %s", err, document)
	}
	// What JSON has no bytes for is told apart from text, and YAML takes no control characters.
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if !bytes.Contains(document, []byte(`"!!binary `)) && !bytes.ContainsFunc(document, odd) {
		if back, err := Parse("shown.json", document); err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("%+v\nis shown as\n%s\nand reads as\n%+v, %v", p, document, back, err)
		}
	}
	// The digest alone would not tell two patterns of invalid UTF-8 apart: encoding/json replaces their bytes.
	if !reflect.DeepEqual(back, p) || back.SHA256() != p.SHA256() {
		t.Fatalf("%+v\nis shown as\n%s\nand reads as\n%+v", p, shown, back)
	}
	if again := Format(back); !bytes.Equal(again, shown) {
		t.Fatalf("shown\n%s\nand then\n%s", shown, again)
	}
}

func TestWhatIsShownReadsBackAsTheSamePolicy(t *testing.T) {
	checkRoundTrip(t, janitor.Combot())
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		checkRoundTrip(t, randomPolicy(t, rng))
	}
}

func TestAwkwardTextReadsBack(t *testing.T) {
	for _, s := range []string{
		"null", "NULL", "~", "true", "-", "- a", "a: b", "#", " ", "*", "&a", "!x", "%", "@", "`", "'", `"`, `\`, "{", "<<", "1e3",
		"\x00", "\x7f", "\u0085", "\u00a0", "\u2028", "\ufeff", "\ufffd", "\U0001f511", "\U000e0001", "a\tb\nc\r\a\b\f\v",
		"\xff", "\xc3", "\xed\xa0\x80", "caf\u00e9", strings.Repeat("long ", 500),
	} {
		p := janitor.Combot()
		p.Protect = []string{s}
		p.Families[0].Match = []string{"ml_results:" + s}
		if utf8.ValidString(s) {
			p.Name = s
			p.Busy.UsersFrom = "key:" + s
		}
		checkRoundTrip(t, p)
	}
}

func TestPercentagesAreShownWithoutTheNoiseOfBinaryFractions(t *testing.T) {
	for share, want := range map[float64]string{0: "0%", 0.55: "55%", 0.07: "7%", 0.6: "60%", 0.625: "62.5%", 1: "100%", 0.001: "0.1%", 0.29: "29%"} {
		if got := formatShare(share); got != want {
			t.Errorf("%g: got %s, want %s", share, got, want)
		}
	}
}

func TestSizesAreShownExactly(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1: "1", 1023: "1023", 1024: "1kb", 1025: "1025", 8 << 30: "8gb", 8e9: "7812500kb", 3 << 40: "3tb", math.MaxInt64: "9223372036854775807"} {
		if got := formatSize(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

// randomPolicy is any valid policy: of its fields, those that must fit others are drawn to do so.
func randomPolicy(t *testing.T, rng *rand.Rand) janitor.Policy {
	t.Helper()
	duration := func() time.Duration {
		units := []time.Duration{1, time.Microsecond, time.Millisecond, time.Second, time.Minute, time.Hour, 24 * time.Hour}
		return time.Duration(rng.Int64N(500)) * units[rng.IntN(len(units))]
	}
	raw := func() string {
		b := make([]byte, rng.IntN(6))
		for i := range b {
			b[i] = byte(rng.IntN(256))
		}
		return string(b)
	}
	shares := [3]float64{0.1 + 0.2*rng.Float64(), 0.4 + float64(rng.IntN(200))/1000, 0.7 + 0.3*rng.Float64()}
	warning := rng.Float64()
	p := janitor.Policy{
		Version: 1,
		Name:    fmt.Sprintf("p%q", raw()),
		Memory: janitor.MemoryPolicy{
			Limit:    []janitor.Limit{{Bytes: 1 + rng.Int64N(math.MaxInt64)}, {Bytes: 1 << rng.IntN(62)}, {From: "maxmemory"}, {From: "system"}}[rng.IntN(4)],
			Source:   []string{"redis", "rss", "host", "cgroup"}[rng.IntN(4)],
			Levels:   ttlpolicy.Thresholds{Cleanup: shares[0], Force: shares[1], Critical: shares[2]},
			Target:   []janitor.Target{{Share: shares[0] * rng.Float64()}, {None: true}, {}}[rng.IntN(3)],
			Readings: 1 + rng.IntN(1000),
			Every:    1 + duration(),
		},
		Busy:     janitor.BusyPolicy{UsersOver: rng.Int64(), UsersFrom: []string{"none", "clients", "family:f0", fmt.Sprintf("key:%q", raw())}[rng.IntN(4)], ActiveWithin: duration()},
		Cooldown: duration(),
		Alerts:   janitor.Alerts{MemoryWarning: warning, MemoryCritical: warning + (1-warning)*rng.Float64(), HitRateBelow: rng.Float64(), WorkerRestartsPerHour: rng.IntN(1000)},
	}
	if p.Memory.Limit.Bytes > 0 && rng.IntN(2) == 0 {
		p.Memory.Target = janitor.Target{Bytes: int64(float64(p.Memory.Limit.Bytes) * shares[0] * 0.9)}
	}
	for range rng.IntN(3) {
		p.Protect = append(p.Protect, "p"+raw())
	}
	for i := range 1 + rng.IntN(4) {
		f := janitor.Family{Name: fmt.Sprintf("f%d", i), Broad: rng.IntN(2) == 0}
		for range 1 + rng.IntN(3) {
			// A fixed prefix of its own keeps the families from tying.
			f.Match = append(f.Match, fmt.Sprintf("f%d:", i)+raw())
		}
		f.Rule = ttlpolicy.Rule{Family: f.Name, Lifetime: 1 + duration(), EvictNoTTL: rng.IntN(2) == 0, KeepNewest: rng.IntN(1000), MinIdle: duration()}
		for _, level := range ttlpolicy.Levels() {
			if rng.IntN(2) == 0 {
				if f.Rule.OlderThan == nil {
					f.Rule.OlderThan = map[ttlpolicy.Level]time.Duration{}
				}
				f.Rule.OlderThan[level] = time.Duration(rng.Int64N(int64(f.Rule.Lifetime) + 1))
			}
		}
		p.Families = append(p.Families, f)
	}
	if err := p.Validate(); err != nil {
		t.Fatalf("the generator made a policy that is not valid: %v", err)
	}
	return p
}

func FuzzWhatReadsIsShownAndReadsAgain(f *testing.F) {
	for _, c := range badFiles {
		if len(c.text) < 1000 {
			f.Add([]byte(c.text))
		}
	}
	for _, name := range []string{"contract.yaml", "shop.yaml", "show-combot.yaml"} {
		data, err := os.ReadFile("../../testdata/policies/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("fuzz.yaml", data)
		if err == nil {
			checkRoundTrip(t, p)
			return
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("%v is no *Error", err)
		}
		// YAML counts these as line ends, where editors may not.
		lines := 1
		for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
			lines += bytes.Count(data, []byte(end))
		}
		if e.File != "fuzz.yaml" || e.Msg == "" || e.Line < 1 || e.Line > lines {
			t.Fatalf("%+v, in a file of %d lines", e, lines)
		}
	})
}
