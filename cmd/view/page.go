package view

import (
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"

	"redis-janitor/ttlpolicy"
)

// ColorMode says which colours a view may use.
type ColorMode int

// The colour modes. Whether the output is a terminal, and what NO_COLOR and --color say, is for the
// caller to weigh: off a terminal it passes Never.
const (
	Never  ColorMode = iota
	Auto             // as many colours as the terminal that Environ names
	Always           // 256 colours, whatever the terminal
)

// environ is a process environment as termenv reads it.
type environ []string

func (e environ) Environ() []string { return e }

func (e environ) Getenv(name string) string {
	for _, entry := range e {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

func (o Options) profile() termenv.Profile {
	switch o.Color {
	case Always:
		return termenv.ANSI256
	case Auto:
		return termenv.NewOutput(o.Out, termenv.WithEnvironment(environ(o.Environ)), termenv.WithTTY(true)).Profile
	}
	return termenv.Ascii
}

// glyphs are the characters that drawings are made of.
type glyphs struct {
	stays, goes, free, rule, arrow, plusMinus, bullet, until string
}

var (
	asciiGlyphs   = glyphs{stays: "#", goes: "=", free: ".", rule: "-", arrow: "->", plusMinus: "+/-", bullet: "*", until: "-"}
	unicodeGlyphs = glyphs{stays: "█", goes: "▒", free: "░", rule: "─", arrow: "→", plusMinus: "±", bullet: "•", until: "–"}
)

// page collects what is shown, line by line, none wider than width.
type page struct {
	glyphs
	text  strings.Builder
	width int
	clip  lipgloss.Style

	plain, strong, faint     lipgloss.Style
	good, mild, severe, grim lipgloss.Style
}

func newPage(o Options) *page {
	profile := o.profile()
	renderer := lipgloss.NewRenderer(o.Out, termenv.WithProfile(profile))
	renderer.SetColorProfile(profile)
	// Said outright, since lipgloss would ask the terminal and wait for its answer.
	renderer.SetHasDarkBackground(o.Dark)
	color := func(light, dark string) lipgloss.Style {
		return renderer.NewStyle().Foreground(lipgloss.AdaptiveColor{Light: light, Dark: dark})
	}
	p := &page{
		glyphs: asciiGlyphs, width: o.Width,
		plain: renderer.NewStyle(), strong: renderer.NewStyle().Bold(true), faint: color("242", "246"),
		good: color("28", "78"), mild: color("94", "221"), severe: color("166", "208"), grim: color("160", "203"),
	}
	if o.Unicode {
		p.glyphs = unicodeGlyphs
	}
	if p.width <= 0 {
		p.width = 80
	}
	p.clip = renderer.NewStyle().MaxWidth(p.width)
	return p
}

// level is the style of a pressure level.
func (p *page) level(l ttlpolicy.Level) lipgloss.Style {
	switch l {
	case ttlpolicy.Cleanup:
		return p.mild
	case ttlpolicy.Force:
		return p.severe
	case ttlpolicy.Critical:
		return p.grim
	}
	return p.good
}

func (p *page) blank() { p.text.WriteByte('\n') }

// lines adds finished lines, cut off at the width.
func (p *page) lines(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		p.text.WriteString(strings.TrimRight(p.clip.Render(line), " ") + "\n")
	}
}

// paragraph wraps text behind a first word or label, and indents what follows by as much.
func (p *page) paragraph(first string, style lipgloss.Style, text string) {
	indent := lipgloss.Width(first)
	// A narrow terminal must not leave a column of single letters.
	for _, line := range wrap(text, max(p.width-indent, 20)) {
		p.lines(first + style.Render(line))
		first = strings.Repeat(" ", indent)
	}
}

const labelWidth = 8

// field is one labelled fact.
func (p *page) field(label, text string) { p.styledField(label, p.plain, text) }

func (p *page) styledField(label string, style lipgloss.Style, text string) {
	p.paragraph("  "+p.faint.Render(label)+strings.Repeat(" ", labelWidth-len(label))+" ", style, text)
}

func (p *page) title(text string) { p.blank(); p.lines(p.strong.Render(text)) }
