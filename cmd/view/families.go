package view

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/lipgloss/table"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// figures are a family's counts as a command can know them: a plan estimates them, a walk counts.
type figures struct{ matched, eligible, evict, bytes int64 }

func familyFigures(r *janitor.Report, f *janitor.FamilyReport) figures {
	if r.Command == "plan" {
		return figures{f.Estimate.Matched, f.Estimate.Eligible, f.Estimate.Evict, f.Estimate.EvictBytes}
	}
	return figures{f.Matched, f.Eligible, f.Evicted, f.Bytes}
}

// families draws a node's table, in the order in which families are evicted. Numbers are never cut:
// where there is no room for them, they are rounded.
func (p *page) families(r *janitor.Report, node *janitor.NodeReport) {
	// A node that was left alone has its families in the report too, with nothing known of them.
	if !node.Sampled && node.Scanned == 0 {
		return
	}
	text := p.familyTable(r, node, count)
	if lipgloss.Width(text) > p.width {
		text = p.familyTable(r, node, shortCount)
	}
	p.blank()
	p.lines(text)
	p.kept(node)
}

func (p *page) familyTable(r *janitor.Report, node *janitor.NodeReport, format func(int64) string) string {
	headers := []string{"Family", "Matched", "Eligible", "Evicted", "Freed", "Down to"}
	if dry(r) {
		headers[3], headers[4] = "Would evict", "Would free"
	}
	counted := func(keys int64) string { return approx(r.Command == "plan" && node.Sampled, keys) + format(keys) }
	var rows [][]string
	for i := range node.Families {
		f := &node.Families[i]
		n := familyFigures(r, f)
		rows = append(rows, []string{p.name(f.Name), counted(n.matched), counted(n.eligible), counted(n.evict),
			approx(dry(r), n.bytes) + ttlpolicy.FormatSize(n.bytes), downTo(r, node, f)})
	}
	return p.table(headers, rows, 1, 4)
}

// approx marks an estimate; that there is nothing needs no mark.
func approx(estimated bool, n int64) string {
	if estimated && n != 0 {
		return "~"
	}
	return ""
}

// name is a family's name, shortened where it would take the room of the numbers.
func (p *page) name(family string) string {
	const longest = 24
	if lipgloss.Width(family) <= longest {
		return family
	}
	return p.plain.MaxWidth(longest-2).Render(family) + ".."
}

// table renders rows under a ruled header, indented; the columns from firstNumber to lastNumber are flush right.
func (p *page) table(headers []string, rows [][]string, firstNumber, lastNumber int) string {
	text := table.New().
		Border(lipgloss.Border{Top: p.rule}).BorderStyle(p.faint).
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).BorderColumn(false).
		Headers(headers...).Rows(rows...).
		StyleFunc(func(row, col int) lipgloss.Style {
			style := p.plain
			if row == table.HeaderRow {
				style = p.strong
			}
			if col >= firstNumber && col <= lastNumber {
				style = style.Align(lipgloss.Right)
			}
			if col > 0 {
				style = style.PaddingLeft(2)
			}
			return style
		}).Render()
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

// downTo says how far down the family goes, as an age: people know how old a key is, not what is
// left of its TTL.
func downTo(r *janitor.Report, node *janitor.NodeReport, f *janitor.FamilyReport) string {
	n := familyFigures(r, f)
	from, found := lowestAge(r, f)
	switch {
	case f.OlderThan == nil:
		return "never at " + node.Level.String()
	case found:
		return olderThan(from)
	case n.evict > 0:
		return "only without TTL"
	case n.eligible == 0:
		return "none eligible"
	}
	return "not needed"
}

// lowestAge is the lowest age that goes, if any with a TTL does: the waterline's, or the rule's own
// where all that is eligible goes and no waterline is needed.
func lowestAge(r *janitor.Report, f *janitor.FamilyReport) (time.Duration, bool) {
	if f.WaterlineMS != nil {
		return max(time.Duration(f.LifetimeS)*time.Second-time.Duration(*f.WaterlineMS)*time.Millisecond, 0), true
	}
	n, all := familyFigures(r, f), f.Kept.AboveWaterline == 0
	if r.Command == "plan" {
		all = n.evict >= n.eligible
	}
	if f.OlderThan == nil || n.evict == 0 || !all {
		return 0, false
	}
	return time.Duration(*f.OlderThan) * time.Second, true
}

func olderThan(d time.Duration) string {
	if d <= 0 {
		return "any age"
	}
	return "older than " + age(d)
}

// keptReason is one reason for which keys of a family stay.
type keptReason struct {
	name, meaning string
	keys          int64
}

// keptReasons lists why keys stay, the most frequent first, leaving out what doesn't occur.
func keptReasons(k janitor.Kept) []keptReason {
	reasons := []keptReason{
		{"fresh", "younger than the rule lets go", k.Fresh},
		{"no TTL", "never expires, and the family keeps such keys", k.NoTTL},
		{"TTL over lifetime", "its TTL lies above the declared lifetime", k.TTLOverLifetime},
		{"protected", "matches a protected pattern", k.Protected},
		{"not idle", "was used within min_idle", k.NotIdle},
		{"above waterline", "old enough, but the target needs only older ones", k.AboveWaterline},
		{"newest", "belongs to the newest that keep_newest keeps", k.Newest},
		{"too large", "too large to free without a stall", k.TooLarge},
		{"moved", "went to another node meanwhile", k.Moved},
		{"unknown", "what decides about it could not be read", k.Unknown},
	}
	reasons = slices.DeleteFunc(reasons, func(k keptReason) bool { return k.keys == 0 })
	slices.SortStableFunc(reasons, func(a, b keptReason) int { return cmp.Compare(b.keys, a.keys) })
	return reasons
}

// keptText sums up what a family keeps in a line: the three largest reasons, and the rest as a number.
func keptText(f *janitor.FamilyReport) string {
	const shown = 3
	var parts []string
	others := int64(0)
	for i, reason := range keptReasons(f.Kept) {
		if i < shown {
			parts = append(parts, reason.name+" "+count(reason.keys))
		} else {
			others += reason.keys
		}
	}
	if others > 0 {
		parts = append(parts, "others "+count(others))
	}
	text := count(f.Kept.Total())
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	if met := metText(f); met != "" {
		text += "; " + met
	}
	return text
}

// metText tells of the keys that changed, or could not be deleted, between being chosen and deletion.
func metText(f *janitor.FamilyReport) string {
	var parts []string
	for _, met := range []keptReason{{name: "refreshed", keys: f.Refreshed}, {name: "vanished", keys: f.Vanished},
		{name: "failed", keys: f.Failed}, {name: "uncertain", keys: f.Uncertain}} {
		if met.keys > 0 {
			parts = append(parts, met.name+" "+count(met.keys))
		}
	}
	return strings.Join(parts, ", ")
}

// kept says of each family what it keeps, and what happened to the rest.
func (p *page) kept(node *janitor.NodeReport) {
	width := 0
	for i := range node.Families {
		width = max(width, lipgloss.Width(p.name(node.Families[i].Name)))
	}
	titled := false
	for i := range node.Families {
		f := &node.Families[i]
		if f.Kept.Total() == 0 && metText(f) == "" {
			continue
		}
		if !titled {
			p.blank()
			p.lines("  " + p.strong.Render("Kept, and why"))
			titled = true
		}
		p.paragraph("  "+p.name(f.Name)+strings.Repeat(" ", width-lipgloss.Width(p.name(f.Name)))+"  ", p.plain, keptText(f))
	}
}

// keptTable is the verbose list: each family, each reason, and below it what the reasons mean.
func (p *page) keptTable(node *janitor.NodeReport) {
	var rows [][]string
	var met []keptReason
	for i := range node.Families {
		f := &node.Families[i]
		for _, reason := range keptReasons(f.Kept) {
			rows = append(rows, []string{p.name(f.Name), count(reason.keys), reason.name})
			if !slices.ContainsFunc(met, func(m keptReason) bool { return m.name == reason.name }) {
				met = append(met, reason)
			}
		}
	}
	if len(rows) == 0 {
		return
	}
	p.blank()
	p.lines(p.table([]string{"Family", "Kept", "Reason"}, rows, 1, 1))
	p.blank()
	for _, reason := range met {
		p.paragraph("  "+reason.name+strings.Repeat(" ", len("TTL over lifetime")-len(reason.name))+"  ", p.faint, reason.meaning)
	}
}
