package view

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// maxBars keeps a family's histogram short enough to see several of them at once.
const maxBars = 12

// bar is one line of a histogram: the keys whose age lies in [from, to), and how many of them go.
type bar struct {
	from, to         time.Duration
	keys, goes, size int64
}

// bars joins neighbouring bins until there are few enough, oldest first, without the empty ends.
// How many go is settled bin by bin beforehand, so that joining doesn't blur the waterline.
func bars(r *janitor.Report, f *janitor.FamilyReport) []bar {
	from, found := lowestAge(r, f)
	var all []bar
	for _, bin := range f.Histogram {
		b := bar{time.Duration(bin.FromS) * time.Second, time.Duration(bin.ToS) * time.Second, bin.Keys, 0, bin.Bytes}
		if found {
			b.goes = goingOf(b, from)
		}
		all = append(all, b)
	}
	empty := func(b bar) bool { return b.keys == 0 }
	for len(all) > 0 && empty(all[len(all)-1]) {
		all = all[:len(all)-1]
	}
	for len(all) > 0 && empty(all[0]) {
		all = all[1:]
	}
	group := (len(all) + maxBars - 1) / maxBars
	var joined []bar
	for len(all) > 0 {
		next := all[0]
		n := min(group, len(all))
		for _, b := range all[1:n] {
			next.to, next.keys, next.goes, next.size = b.to, next.keys+b.keys, next.goes+b.goes, next.size+b.size
		}
		joined, all = append(joined, next), all[n:]
	}
	slices.Reverse(joined)
	return joined
}

// goingOf is how many of a bar's keys are at least so old, taking them as spread evenly over it. It
// rounds up, so that a bar that the waterline cuts always shows that it does.
func goingOf(b bar, waterline time.Duration) int64 {
	switch {
	case b.from >= waterline:
		return b.keys
	case b.to <= waterline:
		return 0
	}
	const floatNoise = 1e-6
	return int64(math.Ceil(float64(b.keys)*float64(b.to-waterline)/float64(b.to-b.from) - floatNoise))
}

// histograms draws each family's ages with the waterline on them, and what is expected of it.
func (p *page) histograms(r *janitor.Report, node *janitor.NodeReport) {
	for i := range node.Families {
		f := &node.Families[i]
		drawn := bars(r, f)
		if len(drawn) == 0 {
			continue
		}
		p.blank()
		p.paragraph("  "+p.strong.Render(p.name(f.Name))+"  ", p.plain, "by age, oldest first"+p.expected(r, node, f))
		p.histogram(r, node, f, drawn)
	}
}

// expected says what evicting everything eligible should free, with the 95 % interval. A walk has counted the keys;
// what it draws was seen by the sample before it.
func (p *page) expected(r *janitor.Report, node *janitor.NodeReport, f *janitor.FamilyReport) string {
	e := f.Estimate
	text := ""
	if r.Command == "dry-run" && node.Sampled {
		text = " (by the sample)"
	}
	if e.Eligible == 0 {
		return text
	}
	keys, bytes, half := e.Eligible, "", max(e.EligibleHigh-e.Eligible, e.Eligible-e.EligibleLow)
	sampled := node.Sampled
	if r.Command == "dry-run" {
		keys, half, sampled = f.Eligible, 0, false
	}
	text += "; eligible " + approx(sampled, keys) + count(keys)
	if half > 0 {
		text += " " + p.plusMinus + " " + count(half)
	}
	if half := max(e.BytesHigh-e.Bytes, e.Bytes-e.BytesLow); half > 0 {
		bytes = " " + p.plusMinus + " " + ttlpolicy.FormatSize(half)
	}
	text += fmt.Sprintf(" keys, ~%s%s if all of them went", ttlpolicy.FormatSize(e.Bytes), bytes)
	if e.NoTTL > 0 {
		text += fmt.Sprintf("; %s%s of them never expire, and go first", approx(node.Sampled, e.NoTTL), count(e.NoTTL))
	}
	return text
}

func (p *page) histogram(r *janitor.Report, node *janitor.NodeReport, f *janitor.FamilyReport, drawn []bar) {
	labels, counts := make([]string, len(drawn)), make([]string, len(drawn))
	labelWidth, countWidth, most := 0, 0, int64(1)
	withBytes := p.width >= 100
	for i, b := range drawn {
		labels[i] = ttlpolicy.FormatDuration(b.from) + p.until + ttlpolicy.FormatDuration(b.to)
		counts[i] = approx(node.Sampled, b.keys) + count(b.keys)
		if withBytes {
			counts[i] += fmt.Sprintf("  %10s", "~"+ttlpolicy.FormatSize(b.size))
		}
		labelWidth = max(labelWidth, lipgloss.Width(labels[i]))
		countWidth = max(countWidth, lipgloss.Width(counts[i]))
		most = max(most, b.keys)
	}
	const fateWidth = len("partly")
	cells := max(p.width-labelWidth-countWidth-fateWidth-8, 5)

	lines := ageLines(r, node, f)
	for len(lines) > 0 && lines[0].at >= drawn[0].to {
		p.ageLine(lines[0].text, labelWidth)
		lines = lines[1:]
	}
	for i, b := range drawn {
		// A bar of few keys still shows: an empty one means that there are none.
		length, goes := ceilShare(b.keys, most, cells), ceilShare(b.goes, most, cells)
		if b.goes < b.keys && b.goes > 0 {
			length = max(length, 2)
			goes = min(goes, length-1)
		}
		fate, style := "stays", p.faint
		switch {
		case b.keys == 0:
			fate = ""
		case b.goes == b.keys:
			fate, style = "goes", p.strong
		case b.goes > 0:
			fate, style = "partly", p.strong
		}
		p.lines(fmt.Sprintf("  %s%s  %s%s%s  %s%s  %s", strings.Repeat(" ", labelWidth-lipgloss.Width(labels[i])), labels[i],
			p.severe.Render(strings.Repeat(p.goes, goes)), p.faint.Render(strings.Repeat(p.stays, length-goes)), strings.Repeat(" ", cells-length),
			strings.Repeat(" ", countWidth-lipgloss.Width(counts[i])), counts[i], style.Render(fate)))
		for len(lines) > 0 && (lines[0].at >= b.from || i == len(drawn)-1) {
			p.ageLine(lines[0].text, labelWidth)
			lines = lines[1:]
		}
	}
}

func ceilShare(part, whole int64, cells int) int {
	return int((part*int64(cells) + whole - 1) / whole)
}

// line is what is drawn across a histogram at an age.
type line struct {
	at   time.Duration
	text string
}

// ageLines are the waterline and, where it lies elsewhere, the rule's own age, the older one first.
func ageLines(r *janitor.Report, node *janitor.NodeReport, f *janitor.FamilyReport) []line {
	if f.OlderThan == nil {
		return []line{{1<<63 - 1, "no rule at " + node.Level.String() + ": all stay"}}
	}
	rule := time.Duration(*f.OlderThan) * time.Second
	ruleText := "rule at " + node.Level.String() + ": " + olderThan(rule)
	from, found := lowestAge(r, f)
	switch {
	case !found:
		return []line{{rule, ruleText + " may go, none needed"}}
	case f.WaterlineMS == nil:
		return []line{{rule, ruleText + " goes, all of it"}}
	}
	lines := []line{{from, "waterline: " + olderThan(from) + " goes"}}
	if rule > 0 && rule != from {
		lines = append(lines, line{rule, ruleText + " may go"})
	}
	return lines
}

func (p *page) ageLine(text string, indent int) {
	left := "  " + strings.Repeat(p.rule, indent) + p.rule + p.rule + " "
	// The rule runs on to the width, so that it stands out from the bars.
	right := max(p.width-lipgloss.Width(left)-lipgloss.Width(text)-1, 0)
	p.lines(p.mild.Render(left + text + " " + strings.Repeat(p.rule, right)))
}
