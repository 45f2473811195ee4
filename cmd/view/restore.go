package view

import (
	"fmt"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// capsule names the file that holds what was deleted.
func (p *page) capsule(r *janitor.Report) {
	c := r.Capsule
	if c == nil {
		return
	}
	text := fmt.Sprintf("%s, %s, %s", c.File, plural(c.Keys, "key", "keys"), ttlpolicy.FormatSize(c.Bytes))
	if c.MadeAt != nil {
		text += fmt.Sprintf(", taken %s from %s", c.MadeAt.Format(time.RFC3339), c.Server)
	}
	p.field("Capsule", text)
}

// restore draws what became of a capsule's keys.
func (p *page) restore(r *janitor.RestoreReport) {
	if len(r.Families) == 0 {
		return
	}
	headers := []string{"Family", "Captured", "Restored", "Exist", "Expired", "As DUMP"}
	if r.DryRun {
		headers[2] = "Would restore"
	}
	var rows [][]string
	for _, f := range r.Families {
		rows = append(rows, []string{p.name(f.Name), count(f.Keys), count(f.Restored), count(f.Exists), count(f.Expired), ttlpolicy.FormatSize(f.Bytes)})
	}
	p.blank()
	p.lines(p.table(headers, rows, 1, len(headers)-1))
}

func (v *HumanView) restorePrompt(plan *janitor.Report) error {
	plan = cleaned(plan, v.opts.Unicode)
	p := newPage(v.opts)
	over := ""
	if n := plan.Restore.Replaced; n > 0 {
		over = fmt.Sprintf(" %s of them exist now, and what they hold would be overwritten.", count(n))
	}
	p.paragraph("", p.strong, fmt.Sprintf("Write %s to %s?%s", plural(plan.Restore.Restored, "key", "keys"), servers(plan), over))
	return v.write("\n" + p.text.String() + "Type yes to write them, anything else to leave: ")
}
