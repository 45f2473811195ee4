package view

import (
	"fmt"
	"strings"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// key tells what each level would do with one key, and from what that follows.
func (p *page) key(k *janitor.KeyReport) {
	p.blank()
	p.paragraph("", p.strong, k.Key)
	p.field("Now", k.Message)
	if !k.Exists {
		return
	}
	family := "none"
	if k.Family != "" {
		family = fmt.Sprintf("%s, by its pattern %s", k.Family, k.Pattern)
	}
	p.field("Family", family)
	if k.ProtectedBy != "" {
		p.field("Protect", k.ProtectedBy)
	}
	size := "size unknown"
	if k.Bytes != nil {
		size = ttlpolicy.FormatSize(*k.Bytes) + " by MEMORY USAGE"
	}
	p.field("Value", joined(k.Type, size))
	p.field("TTL", ttlText(k))
	if k.IdleS != nil {
		p.field("Idle", "not used for at least "+lasts(*k.IdleS*1000))
	} else {
		p.field("Idle", "unknown: not readable, or the server keeps no idle times (an LFU maxmemory-policy)")
	}
	for _, l := range k.Levels {
		style := p.plain
		if l.InForce {
			style = p.strong
		}
		name := l.Level.String()
		p.styledField(strings.ToUpper(name[:1])+name[1:], style, l.Message)
	}
}

func ttlText(k *janitor.KeyReport) string {
	switch {
	case k.Expires == nil:
		return "unknown"
	case !*k.Expires:
		return "none: it never expires"
	case k.TTLMS == nil:
		return "unknown"
	}
	text := lasts(*k.TTLMS) + " left"
	if k.LifetimeS != nil {
		text += fmt.Sprintf(" of the family's lifetime of %s", lasts(*k.LifetimeS*1000))
	}
	if k.AgeMS != nil {
		text += fmt.Sprintf(": written %s ago", lasts(*k.AgeMS))
	}
	return text
}

// lasts writes milliseconds to the second.
func lasts(ms int64) string {
	return ttlpolicy.FormatDuration((time.Duration(ms) * time.Millisecond).Round(time.Second))
}
