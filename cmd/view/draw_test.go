package view

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"

	"redis-janitor/janitor"
)

// gaugeRows are the three rows of a gauge 100 cells wide: marks, bar, legend.
func gaugeRows(node janitor.NodeReport) []string {
	p := newPage(Options{Out: io.Discard, Width: 104})
	p.gauge(&janitor.Report{}, &node)
	return strings.Split(p.text.String(), "\n")
}

func TestTheGaugeMarksTheThresholdsInTheirPlaces(t *testing.T) {
	rows := gaugeRows(executed().Nodes[0])
	const inset = 3 // "  [", which the marks' row skips
	for letter, cell := range map[string]int{"T": 55, "c": 60, "f": 75, "!": 85} {
		if got := strings.LastIndex(rows[0], letter) - inset; got != cell {
			t.Errorf("%s stands over cell %d, want %d\n%s\n%s", letter, got, cell, rows[0], rows[1])
		}
	}
	// 6.12 GB of 8 GB before, 4.39 GB after.
	if want := "  [" + strings.Repeat("#", 55) + strings.Repeat("=", 21) + strings.Repeat(".", 24) + "]"; rows[1] != want {
		t.Errorf("bar\n%s, want\n%s", rows[1], want)
	}
	if want := "   T target 4.40 GB, c cleanup 4.80 GB, f force 6.00 GB, ! critical 6.80 GB"; rows[2] != want {
		t.Errorf("legend %q, want %q", rows[2], want)
	}
}

func TestMarksThatFallTogetherStandSideBySide(t *testing.T) {
	const inset = 3
	for _, c := range []struct {
		percent int64 // where all but critical fall together
		want    string
		at      int
	}{{50, "Tcf", 50}, {100, "!Tcf", 96}} {
		node := executed().Nodes[0]
		m := &node.Memory
		at := m.LimitBytes * c.percent / 100
		m.TargetBytes, m.Levels = at-2, janitor.ThresholdsReport{Cleanup: at - 1, Force: at, Critical: m.LimitBytes * 96 / 100}
		rows := gaugeRows(node)
		if strings.LastIndex(rows[0], c.want) != inset+c.at || strings.LastIndex(rows[0], "!") != inset+96 {
			t.Errorf("at %d %%: marks %q", c.percent, rows[0])
		}
	}
}

func TestMemoryOutsideTheScaleStillDraws(t *testing.T) {
	for _, m := range []struct{ used, after int64 }{{0, 0}, {20 * gb, 0}, {20 * gb, 19 * gb}, {gb, 7 * gb}, {1, 12 * gb}} {
		node := executed().Nodes[0]
		node.Memory.UsedBytes, node.Memory.AfterBytes = m.used, m.after
		if rows := gaugeRows(node); len(rows[1]) != 104 {
			t.Errorf("used %d, after %d: a bar of %d columns: %s", m.used, m.after, len(rows[1]), rows[1])
		}
	}
}

func TestJoiningBinsLosesNoKeyAndLeavesTheWaterlineExact(t *testing.T) {
	for _, bins := range []int{0, 1, 2, 11, 12, 13, 24, 25, 100} {
		f := janitor.FamilyReport{LifetimeS: int64(bins) * 60, WaterlineMS: ptr(int64(bins) * 20_000), Histogram: histogram(bins, 60, func(i int) int64 { return int64(100 + i) })}
		keys, goes := int64(0), int64(0)
		for _, b := range bars(&janitor.Report{}, &f) {
			keys, goes = keys+b.keys, goes+b.goes
		}
		wantKeys, wantGoes := int64(0), int64(0)
		for i, bin := range f.Histogram {
			wantKeys += bin.Keys
			// The waterline lies at two thirds of the lifetime: in bin i if i is 2/3 of bins.
			switch inBin := 2*bins - 3*i; {
			case inBin <= 0:
				wantGoes += bin.Keys
			case inBin < 3:
				wantGoes += (bin.Keys*int64(3-inBin) + 2) / 3 // rounded up
			}
		}
		if n := len(bars(&janitor.Report{}, &f)); n > maxBars || keys != wantKeys || goes != wantGoes {
			t.Errorf("%d bins: %d bars of %d keys, %d go; want %d keys, %d go", bins, n, keys, goes, wantKeys, wantGoes)
		}
	}
}

func TestTheWaterlineStandsBetweenWhatGoesAndWhatStays(t *testing.T) {
	for _, waterline := range []int64{-1, 0, 1, 299_999, 300_000, 300_001, 1_700_000, 3_599_999, 3_600_000, 9_000_000} {
		f := janitor.FamilyReport{Name: "f", LifetimeS: 3600, OlderThan: ptr(0), WaterlineMS: ptr(waterline),
			Histogram: histogram(12, 300, func(int) int64 { return 100 })}
		p := newPage(Options{Out: io.Discard})
		p.histogram(&janitor.Report{}, &janitor.NodeReport{}, &f, bars(&janitor.Report{}, &f))
		above, below, found := strings.Cut(p.text.String(), "waterline")
		if !found || strings.Contains(above, "stays") || strings.Contains(below, "goes\n") || strings.Contains(below, "partly") {
			t.Errorf("waterline at %d ms:\n%s", waterline, p.text.String())
		}
	}
}

func TestAFewKeysStillShowABar(t *testing.T) {
	f := janitor.FamilyReport{Name: "f", LifetimeS: 7200, OlderThan: ptr(0), Histogram: []janitor.Bin{
		{FromS: 0, ToS: 600, Keys: 1_000_000}, {FromS: 600, ToS: 1200}, {FromS: 1200, ToS: 1800, Keys: 1}}}
	p := newPage(Options{Out: io.Discard})
	p.histogram(&janitor.Report{}, &janitor.NodeReport{}, &f, bars(&janitor.Report{}, &f))
	rows := strings.Split(p.text.String(), "\n")
	if len(rows) != 5 || !strings.Contains(rows[0], " #  ") || strings.Contains(rows[1], "#") {
		t.Errorf("\n%s", p.text.String())
	}
}

func TestJSONIsOneDocumentThatReadsBackTheSame(t *testing.T) {
	for name, sample := range samples {
		r := sample()
		r.Message += " <&> " + "\x1b[31m"
		var out bytes.Buffer
		if err := JSON(&out, r); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if !strings.HasSuffix(text, "\n}\n") || !strings.Contains(text, "<&>") || strings.Contains(text, "\x1b") {
			t.Errorf("%s: %s", name, text)
		}
		decoder := json.NewDecoder(&out)
		decoder.DisallowUnknownFields()
		var back janitor.Report
		if err := decoder.Decode(&back); err != nil {
			t.Fatal(err)
		}
		if _, err := decoder.Token(); err != io.EOF {
			t.Errorf("%s: something follows the document: %v", name, err)
		}
		if !reflect.DeepEqual(&back, r) {
			t.Errorf("%s: read back as\n%+v\nrather than\n%+v", name, back, r)
		}
	}
}

func TestWrappedTextKeepsItsWordsAndItsWidth(t *testing.T) {
	text := "a key " + strings.Repeat("漢字", 40) + " and " + strings.Repeat("x", 95) + " end"
	for width := 20; width < 60; width++ {
		lines := wrap(text, width)
		if got := strings.Join(lines, ""); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(text, " ", "") {
			t.Errorf("at %d letters were lost: %q", width, lines)
		}
	}
	if got := wrap("", 20); len(got) != 1 {
		t.Errorf("an empty text is %q", got)
	}
}

func TestCountsAreReadable(t *testing.T) {
	for n, want := range map[int64][2]string{
		0: {"0", "0"}, 7: {"7", "7"}, 999: {"999", "999"}, 1000: {"1,000", "1.00k"}, -1234567: {"-1,234,567", "-1234567"},
		1_204_331: {"1,204,331", "1.20M"}, 999_600: {"999,600", "1.00M"}, 43_323: {"43,323", "43.3k"}, 433_230: {"433,230", "433k"},
		-999: {"-999", "-999"}, 100_000: {"100,000", "100k"}, 9_996: {"9,996", "10.0k"},
	} {
		if got := [2]string{count(n), shortCount(n)}; got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestHowFarDownAFamilyGoesIsSaidForEveryCase(t *testing.T) {
	node := &janitor.NodeReport{}
	rule := ptr(1800)
	for want, f := range map[string]janitor.FamilyReport{
		"never at ok":      {},
		"none eligible":    {OlderThan: rule},
		"not needed":       {OlderThan: rule, Eligible: 5, Kept: janitor.Kept{AboveWaterline: 5}},
		"only without TTL": {OlderThan: rule, Eligible: 5, Evicted: 2, Kept: janitor.Kept{AboveWaterline: 3}},
		"older than 30m":   {OlderThan: rule, Eligible: 5, Evicted: 5},
		"any age":          {OlderThan: ptr(0), Eligible: 5, Evicted: 5},
		"older than 45m":   {OlderThan: rule, Eligible: 5, Evicted: 2, LifetimeS: 3600, WaterlineMS: ptr(900_000), Kept: janitor.Kept{AboveWaterline: 3}},
	} {
		if got := downTo(&janitor.Report{Command: "execute"}, node, &f); got != want {
			t.Errorf("executed: %q, want %q", got, want)
		}
		f.Estimate = janitor.Estimate{Eligible: f.Eligible, Evict: f.Evicted}
		f.Kept = janitor.Kept{} // which a plan doesn't know
		if got := downTo(&janitor.Report{Command: "plan"}, node, &f); got != want {
			t.Errorf("planned: %q, want %q", got, want)
		}
	}
}
