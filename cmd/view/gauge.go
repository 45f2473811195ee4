package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/lipgloss"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// mark is a point on the gauge: a letter above the bar, told in the legend below it.
type mark struct {
	letter, name string
	bytes        int64
	style        lipgloss.Style
}

func (p *page) memory(r *janitor.Report, node *janitor.NodeReport) {
	m := node.Memory
	if m.LimitBytes <= 0 {
		return // refused before anything was measured
	}
	text := fmt.Sprintf("%s of %s (%s, source %s)", ttlpolicy.FormatSize(m.UsedBytes), ttlpolicy.FormatSize(m.LimitBytes),
		percent(m.UsedBytes, m.LimitBytes), m.Source)
	if m.AfterBytes > 0 && m.AfterBytes != m.UsedBytes {
		text += fmt.Sprintf(" %s %s (%s%s)", p.arrow, ttlpolicy.FormatSize(m.AfterBytes), percent(m.AfterBytes, m.LimitBytes), estimateNote(r))
	}
	p.styledField("Memory", p.level(node.Level), text)
	p.gauge(r, node)
	if m.MissingBytes > 0 {
		p.styledField("Short", p.grim, ttlpolicy.FormatSize(m.MissingBytes)+" above the target even if everything eligible goes")
	}
	p.rss(node)
}

func (p *page) gauge(r *janitor.Report, node *janitor.NodeReport) {
	m := node.Memory
	marks := []mark{
		{"T", "target", m.TargetBytes, p.strong},
		{"c", "cleanup", m.Levels.Cleanup, p.mild},
		{"f", "force", m.Levels.Force, p.severe},
		{"!", "critical", m.Levels.Critical, p.grim},
	}
	marks = slices.DeleteFunc(marks, func(k mark) bool { return k.bytes <= 0 })
	slices.SortStableFunc(marks, func(a, b mark) int { return int(min(max(a.bytes-b.bytes, -1), 1)) })

	cells := max(p.width-4, 20)
	scale := max(m.LimitBytes, m.UsedBytes)
	cell := func(bytes int64) int { return int(float64(bytes)/float64(scale)*float64(cells) + 0.5) }

	stays, used := cell(m.UsedBytes), cell(m.UsedBytes)
	parts := p.stays + " used  " + p.free + " free"
	if m.AfterBytes > 0 && m.AfterBytes < m.UsedBytes {
		stays = cell(m.AfterBytes)
		gone := " gone  "
		if dry(r) {
			gone = " goes  "
		}
		parts = p.stays + " stays  " + p.goes + gone + p.free + " free"
	}

	above, end, legend := "", 0, []string{}
	for i, k := range marks {
		// Marks that fall on one cell stand side by side, and none falls off the bar's end.
		at := min(max(cell(k.bytes), end), cells-len(marks)+i)
		if i == 0 && lipgloss.Width(parts)+2 <= at {
			above, end = p.faint.Render(parts), lipgloss.Width(parts)
		}
		above += strings.Repeat(" ", max(at-end, 0)) + k.style.Render(k.letter)
		end = at + 1
		legend = append(legend, fmt.Sprintf("%s %s %s", k.letter, k.name, ttlpolicy.FormatSize(k.bytes)))
	}
	p.lines("   " + above)
	p.lines("  [" + p.level(node.Level).Render(strings.Repeat(p.stays, stays)) +
		p.strong.Render(strings.Repeat(p.goes, used-stays)) + p.faint.Render(strings.Repeat(p.free, cells-used)) + "]")
	p.paragraph("   ", p.faint, strings.Join(legend, ", "))
}

// rss tells what the system sees, which is where people look when nothing seems to have been freed.
func (p *page) rss(node *janitor.NodeReport) {
	m := node.Memory
	if m.RSSBytes > 0 {
		text := ttlpolicy.FormatSize(m.RSSBytes)
		if m.AfterRSSBytes > 0 && m.AfterRSSBytes != m.RSSBytes {
			text += " " + p.arrow + " " + ttlpolicy.FormatSize(m.AfterRSSBytes)
		}
		text += " held from the system"
		if m.Fragmentation > 0 {
			text += fmt.Sprintf(", fragmentation %.2f", m.Fragmentation)
		}
		if m.MaxMemory > 0 {
			text += ", maxmemory " + ttlpolicy.FormatSize(m.MaxMemory)
		}
		p.field("RSS", text)
	}
}

// warned says whether a warning holds for a node, or for any if addr is empty.
func warned(r *janitor.Report, code, addr string) bool {
	return slices.ContainsFunc(r.Warnings, func(w janitor.Warning) bool {
		return w.Code == code && (addr == "" || w.Node == "" || w.Node == addr)
	})
}

// estimateNote marks what a command that deletes nothing could only estimate.
func estimateNote(r *janitor.Report) string {
	if dry(r) {
		return ", estimate"
	}
	return ""
}

// dry says that the command deletes nothing, so that its byte counts are estimates.
func dry(r *janitor.Report) bool { return r.Command == "plan" || r.Command == "dry-run" }
