package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// section is one scenario, written up.
type section struct {
	name  string // of the scenario
	title string
	text  string
	goals []goal
}

// goal is what a figure has to come to, and what it came to.
type goal struct {
	what   string
	want   string
	got    string
	passed bool
}

func atMost(what string, s spread, limit float64) goal {
	return goal{what, fmt.Sprintf("≤ %g", limit), s.factor(), s.Median <= limit}
}

func atLeast(what string, s spread, limit float64) goal {
	return goal{what, fmt.Sprintf("≥ %g", limit), s.factor(), s.Median >= limit}
}

// marker begins a section in the document. A run of one scenario replaces that section alone.
func marker(name string) string { return "<!-- scenario: " + name + " -->\n" }

// markdown is the section with its marker.
func (s section) markdown(conditions string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s## %s\n\n%s\n\n%s\n", marker(s.name), s.title, conditions, strings.TrimSpace(s.text))
	if len(s.goals) > 0 {
		rows := make([][]string, len(s.goals))
		for i, g := range s.goals {
			met := "yes"
			if !g.passed {
				met = "**no**"
			}
			rows[i] = []string{g.what, g.want, g.got, met}
		}
		fmt.Fprintf(&b, "\n%s", table([]string{"goal", "wanted", "measured", "met"}, rows))
	}
	return b.String()
}

// merge puts new sections into a document: in the order of names, those that are not new as they were. The preface
// before the first section is replaced.
func merge(old, preface string, names []string, fresh map[string]string) string {
	var b strings.Builder
	b.WriteString(preface)
	for _, name := range names {
		text, ok := fresh[name]
		if !ok {
			text = existing(old, name)
		}
		if text = strings.TrimSpace(text); text != "" {
			b.WriteString("\n" + text + "\n")
		}
	}
	return b.String()
}

// existing cuts a section out of a document, "" where it has none.
func existing(document, name string) string {
	_, rest, found := strings.Cut(document, marker(name))
	if !found {
		return ""
	}
	text, _, _ := strings.Cut(rest, "<!-- scenario: ")
	return marker(name) + text
}

// table writes a Markdown table whose columns also line up as plain text: words to the left, figures to the right.
func table(header []string, rows [][]string) string {
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	line := func(cells []string) {
		for i, cell := range cells {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				cell = space + cell
			} else {
				cell += space
			}
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
	}
	line(header)
	for i, width := range widths {
		switch i {
		case 0:
			b.WriteString("|" + strings.Repeat("-", width+2))
		default:
			b.WriteString("|" + strings.Repeat("-", width+1) + ":")
		}
	}
	b.WriteString("|\n")
	for _, row := range rows {
		line(row)
	}
	return b.String()
}

// seconds2 writes the median of a figure in seconds.
func seconds2(s spread) string { return fmt.Sprintf("%.2f", s.Median) }
