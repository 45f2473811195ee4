// Package view shows what a run came to: a report for people or as JSON, and its progress. All of it
// is drawn from janitor.Report and janitor.Progress alone.
//
// The rules of the human view: no line is wider than the terminal; every word that came from outside
// is escaped before it is printed; colour and drawings only repeat what is also there in words, so
// that a log, a pipe and a person who sees no colours lose nothing; figures that are estimates say so.
package view

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// Options says where and how a report is shown. The caller has resolved all of it: a view reads no
// environment of its own and asks no terminal anything.
type Options struct {
	Out     io.Writer
	Width   int // in columns; 0 is 80
	Color   ColorMode
	Environ []string // "KEY=value"; Auto finds TERM and COLORTERM in it
	Dark    bool     // the background is dark
	Unicode bool     // the terminal takes UTF-8
	Quiet   bool     // nothing on exit code 0, one line otherwise
	Verbose bool
}

// HumanView shows reports to a person.
type HumanView struct{ opts Options }

// Human is the view for people.
func Human(opts Options) *HumanView { return &HumanView{opts} }

// Report shows a report, in one write. Its error is the output's.
func (v *HumanView) Report(r *janitor.Report) error {
	r = cleaned(r, v.opts.Unicode)
	if v.opts.Quiet {
		if r.ExitCode == janitor.ExitDone {
			return nil
		}
		where := ""
		if len(r.Nodes) == 1 {
			where = fmt.Sprintf(" (%s)", r.Nodes[0].Addr)
		}
		line := fmt.Sprintf("redis-janitor %s%s: %s (%s): %s", r.Command, where, r.Outcome, r.Reason, r.Message)
		if r.Hint != "" {
			line += "; " + r.Hint
		}
		return v.write(line + "\n")
	}
	p := newPage(v.opts)
	p.headline(r, v.opts.Verbose)
	p.capsule(r)
	if r.Restore == nil {
		p.nodes(r, v.opts.Verbose)
	}
	switch {
	case r.Restore != nil:
		p.restore(r.Restore)
	case len(r.Nodes) > 1 && r.Command != "explain":
		p.totals(r)
	}
	for i := range r.Keys {
		p.key(&r.Keys[i])
	}
	p.warnings(r)
	p.next(r)
	return v.write(p.text.String())
}

func (v *HumanView) write(text string) error {
	if _, err := io.WriteString(v.opts.Out, text); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// ConfirmPrompt shows the plan of what is about to be deleted, and asks. The caller reads the answer;
// anything but yes is no.
func ConfirmPrompt(opts Options, plan *janitor.Report) error {
	opts.Quiet = false // a question that isn't shown cannot be answered
	v := Human(opts)
	if err := v.Report(plan); err != nil {
		return err
	}
	if plan.Restore != nil {
		return v.restorePrompt(plan)
	}
	plan = cleaned(plan, opts.Unicode)
	keys, bytes := int64(0), int64(0)
	for i := range plan.Nodes {
		for j := range plan.Nodes[i].Families {
			n := familyFigures(plan, &plan.Nodes[i].Families[j])
			keys, bytes = keys+n.evict, bytes+n.bytes
		}
	}
	p := newPage(opts)
	p.paragraph("", p.strong, fmt.Sprintf("Delete about %s (~%s, an estimate) from %s?",
		plural(keys, "key", "keys"), ttlpolicy.FormatSize(bytes), servers(plan)))
	return v.write("\n" + p.text.String() + "Type yes to delete them, anything else to leave: ")
}

func servers(r *janitor.Report) string {
	if len(r.Nodes) == 1 {
		return fmt.Sprintf("%s, db %d", r.Nodes[0].Addr, r.Nodes[0].DB)
	}
	return plural(int64(len(r.Nodes)), "node", "nodes")
}

func (p *page) headline(r *janitor.Report, verbose bool) {
	style := p.strong.Inherit(p.outcome(r))
	p.paragraph(style.Render(strings.ToUpper(string(r.Outcome)))+"  ", p.strong, r.Message)
	p.field("Run", fmt.Sprintf("%s at %s took %s: %s", r.Command, r.StartedAt.Format(time.RFC3339),
		ttlpolicy.FormatDuration(time.Duration(r.DurationMS)*time.Millisecond), joined(string(r.Reason), fmt.Sprintf("exit %d", r.ExitCode))))
	switch {
	case r.Command == "plan" && r.Outcome == janitor.Planned:
		p.field("Note", "nothing was deleted; ~ marks estimates, "+p.plusMinus+" their 95 % intervals")
	case r.Command == "dry-run":
		p.field("Note", "nothing was deleted; counts are what would go, ~ marks estimates")
	case r.Command == "explain":
		p.field("Note", "nothing was deleted, and no key's idle time was touched")
	case r.Restore != nil && r.Restore.DryRun:
		p.field("Note", "nothing was written; counts are what would come back")
	}
	switch {
	case r.Restore != nil:
	case !slices.ContainsFunc(r.Nodes, func(n janitor.NodeReport) bool { return n.Memory.LimitBytes > 0 }):
		p.field("Level", "not measured") // it was refused before
	default:
		p.styledField("Level", p.level(r.Level), r.Level.String())
	}
	if len(r.Nodes) == 1 {
		p.field("Server", joined(servers(r), r.Nodes[0].Server, r.Nodes[0].Role))
	} else if len(r.Nodes) > 1 {
		p.field("Servers", servers(r))
	}
	if r.Policy.Name != "" {
		p.field("Policy", joined(r.Policy.Name, "sha256 "+r.Policy.SHA256[:min(12, len(r.Policy.SHA256))]))
	}
	if r.Plan != nil {
		p.field("Plan", joined(r.Plan.ID, "made at "+r.Plan.MadeAt.Format(time.RFC3339)))
	}
	p.users(r)
	if verbose {
		p.field("Digest", r.Policy.SHA256)
		p.field("Version", r.Version)
	}
}

func (p *page) users(r *janitor.Report) {
	u := r.Users
	// Below the thresholds, and in a pause, the run ended before anybody was counted.
	if u.From == "" || u.From == "none" || r.Level == ttlpolicy.OK || r.Reason == janitor.Paused {
		return
	}
	from := fmt.Sprintf("at most %s may be interrupted, from %s", count(u.Over), u.From)
	switch {
	case u.Active == 0 && warned(r, "users_unknown", ""):
		p.styledField("Users", p.mild, "unknown; "+from)
	case u.Busy && r.Outcome != janitor.Skipped && !dry(r) && r.Level < ttlpolicy.Critical:
		p.styledField("Users", p.mild, "busy: "+count(u.Active)+" active, "+from+" (ignored: --ignore-busy)")
	case u.Busy:
		p.styledField("Users", p.mild, "busy: "+count(u.Active)+" active, "+from)
	default:
		p.field("Users", count(u.Active)+" active, "+from)
	}
}

// outcome is the style of an outcome: good where the run did what it was meant to.
func (p *page) outcome(r *janitor.Report) lipgloss.Style {
	switch r.Outcome {
	case janitor.Failed, janitor.Refused:
		return p.grim
	case janitor.Incomplete:
		return p.severe
	case janitor.Skipped:
		return p.mild
	}
	return p.good
}

func (p *page) node(r *janitor.Report, node *janitor.NodeReport, verbose bool) {
	p.blank()
	text := fmt.Sprintf("%s in db %d", count(node.Keys), node.DB)
	switch {
	case node.Walks > 0:
		text += fmt.Sprintf(", %s scanned in %s", count(node.Scanned), plural(int64(node.Walks), "walk", "walks"))
	case node.Sampled:
		text += ", estimated from a sample of them"
	case node.Scanned > 0:
		text += ", all of them read"
	}
	if node.Walks > 0 && node.Pace != "" {
		text += ", pace " + node.Pace
	}
	if node.Backoffs > 0 {
		text += ", slowed down " + plural(node.Backoffs, "time", "times") + " for others"
	}
	p.field("Keys", text)
	if verbose {
		p.field("Run ID", node.RunID)
	}
	p.memory(r, node)
	if r.Command == "explain" {
		return // it was asked about keys, and not about the keyspace
	}
	p.families(r, node)
	if dry(r) && (verbose || len(r.Nodes) == 1) {
		p.histograms(r, node)
	}
	if verbose {
		p.keptTable(node)
	}
}

func (p *page) totals(r *janitor.Report) {
	p.title("All nodes")
	n := figures{r.Totals.Matched, r.Totals.Eligible, r.Totals.Evicted, r.Totals.FreedBytes}
	if r.Command == "plan" { // whose totals count nothing: a plan only estimates
		n = figures{}
		for i := range r.Nodes {
			for j := range r.Nodes[i].Families {
				f := familyFigures(r, &r.Nodes[i].Families[j])
				n = figures{n.matched + f.matched, n.eligible + f.eligible, n.evict + f.evict, n.bytes + f.bytes}
			}
		}
	}
	evicted, freed := "evicted", ttlpolicy.FormatSize(n.bytes)+" freed"
	if dry(r) {
		evicted, freed = "would be evicted", "~"+ttlpolicy.FormatSize(n.bytes)+" (estimate) would be freed"
	}
	t := r.Totals
	met := metText(&janitor.FamilyReport{Refreshed: t.Refreshed, Vanished: t.Vanished, Failed: t.Failed, Uncertain: t.Uncertain})
	p.paragraph("  ", p.plain, joined(count(n.matched)+" matched", count(n.eligible)+" eligible", count(n.evict)+" "+evicted, freed, met))
}

func (p *page) warnings(r *janitor.Report) {
	if len(r.Warnings) == 0 {
		return
	}
	p.title("Warnings")
	for _, w := range r.Warnings {
		head := p.mild.Render(w.Code)
		if where := joined(w.Family, w.Node); where != "" {
			head += " (" + where + ")"
		}
		p.lines("  " + p.bullet + " " + head)
		p.paragraph("    ", p.plain, w.Message)
	}
}

func (p *page) next(r *janitor.Report) {
	steps := advice(r)
	if len(steps) == 0 {
		return
	}
	p.title("What to do next")
	for _, step := range steps {
		p.paragraph("  "+p.bullet+" ", p.plain, step)
	}
}

// joined puts commas between those parts that are there.
func joined(parts ...string) string {
	var present []string
	for _, part := range parts {
		if part != "" {
			present = append(present, part)
		}
	}
	return strings.Join(present, ", ")
}
