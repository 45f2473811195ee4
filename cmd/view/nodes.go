package view

import (
	"fmt"

	"github.com/charmbracelet/lipgloss"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// fewNodes is up to how many servers are each shown with all there is, though without being asked.
const fewNodes = 3

// nodes shows every server: of several a row each first, and what there is to say of each one below it,
// unless they are too many for that.
func (p *page) nodes(r *janitor.Report, verbose bool) {
	several := len(r.Nodes) > 1
	if several {
		p.nodeTable(r)
	}
	if len(r.Nodes) > fewNodes && !verbose {
		p.familyTotals(r)
		p.paragraph("  ", p.faint, "-v shows each node with its families")
		return
	}
	for i := range r.Nodes {
		node := &r.Nodes[i]
		if node.Memory.LimitBytes <= 0 && several {
			continue // down, or not come to: its row says all there is
		}
		if several {
			p.title(fmt.Sprintf("%s, %s, level %s: %s (%s)", node.Addr, node.Server, node.Level, node.Outcome, node.Reason))
		}
		p.node(r, node, verbose)
	}
}

// nodeTable has a row for each server.
func (p *page) nodeTable(r *janitor.Report) {
	headers := []string{"Node", "Level", "Memory", "Evicted", "Freed", "Ended", "Keys"}
	if dry(r) {
		headers[3], headers[4] = "To evict", "To free"
	}
	var rows [][]string
	for i := range r.Nodes {
		node := &r.Nodes[i]
		var n figures
		for j := range node.Families {
			f := familyFigures(r, &node.Families[j])
			n.evict, n.bytes = n.evict+f.evict, n.bytes+f.bytes
		}
		m := node.Memory
		level, memory := node.Level.String(), "unknown"
		if m.LimitBytes > 0 {
			memory = percent(m.UsedBytes, m.LimitBytes)
			if m.AfterBytes > 0 && m.AfterBytes != m.UsedBytes {
				memory += " " + p.arrow + " " + percent(m.AfterBytes, m.LimitBytes)
			}
		} else {
			level = "unknown"
		}
		ended := string(node.Outcome)
		if node.Reason == janitor.NodeDown {
			ended = "down"
		}
		rows = append(rows, []string{node.Addr, level, memory,
			approx(r.Command == "plan" && node.Sampled, n.evict) + shortCount(n.evict), approx(dry(r), n.bytes) + shortSize(n.bytes), ended, shortCount(node.Keys)})
	}
	text := p.table(headers, rows, 2, 6)
	if lipgloss.Width(text) > p.width { // the least of it
		for i := range rows {
			rows[i] = rows[i][:len(rows[i])-1]
		}
		text = p.table(headers[:len(headers)-1], rows, 2, 6)
	}
	p.blank()
	p.lines(text)
}

// familyTotals sums the families over all servers.
func (p *page) familyTotals(r *janitor.Report) {
	headers := []string{"Family, all nodes", "Matched", "Eligible", "Evicted", "Freed"}
	if dry(r) {
		headers[3], headers[4] = "Would evict", "Would free"
	}
	var names []string
	sums := map[string]figures{}
	for i := range r.Nodes {
		for j := range r.Nodes[i].Families {
			family := &r.Nodes[i].Families[j]
			name := p.name(family.Name)
			sum, met := sums[name]
			if !met {
				names = append(names, name)
			}
			f := familyFigures(r, family)
			sums[name] = figures{sum.matched + f.matched, sum.eligible + f.eligible, sum.evict + f.evict, sum.bytes + f.bytes}
		}
	}
	draw := func(format func(int64) string) string {
		var rows [][]string
		for _, name := range names {
			n := sums[name]
			about := func(keys int64) string { return approx(r.Command == "plan", keys) + format(keys) }
			rows = append(rows, []string{name, about(n.matched), about(n.eligible), about(n.evict), approx(dry(r), n.bytes) + ttlpolicy.FormatSize(n.bytes)})
		}
		return p.table(headers, rows, 1, 4)
	}
	text := draw(count)
	if lipgloss.Width(text) > p.width {
		text = draw(shortCount)
	}
	p.blank()
	p.lines(text)
}
