package view

// Heading begins a part of what a command tells at length, such as the demo's acts.
func (v *HumanView) Heading(title, text string) error {
	p := newPage(v.opts)
	p.title(clean(title, v.opts.Unicode))
	p.paragraph("", p.plain, clean(text, v.opts.Unicode))
	return v.write(p.text.String())
}

// Paragraph tells what stands between reports.
func (v *HumanView) Paragraph(text string) error {
	p := newPage(v.opts)
	p.blank()
	p.paragraph("", p.plain, clean(text, v.opts.Unicode))
	return v.write(p.text.String())
}
