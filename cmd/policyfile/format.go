package policyfile

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// Format writes a valid policy out in full, so that nothing is left to defaults: Parse reads the
// very same policy back.
func Format(p janitor.Policy) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	line("version: %d", p.Version)
	line("name: %s", text(p.Name))
	line("memory:")
	line("  limit: %s", formatLimit(p.Memory.Limit))
	line("  source: %s", p.Memory.Source)
	levels := p.Memory.Levels
	line("  levels: {cleanup: %s, force: %s, critical: %s}", formatShare(levels.Cleanup), formatShare(levels.Force), formatShare(levels.Critical))
	line("  target: %s", formatTarget(p.Memory.Target))
	line("  readings: %d", p.Memory.Readings)
	line("  every: %s", ttlpolicy.FormatDuration(p.Memory.Every))
	line("busy: {users_over: %d, users_from: %s, active_within: %s}",
		p.Busy.UsersOver, strconv.Quote(p.Busy.UsersFrom), ttlpolicy.FormatDuration(p.Busy.ActiveWithin))
	line("cooldown: %s", ttlpolicy.FormatDuration(p.Cooldown))
	line("protect: %s", formatPatterns(p.Protect))
	line("families:")
	for _, f := range p.Families {
		line("  - name: %s", text(f.Name))
		line("    match: %s", formatPatterns(f.Match))
		line("    lifetime: %s", ttlpolicy.FormatDuration(f.Rule.Lifetime))
		if f.Rule.EvictNoTTL {
			line("    no_ttl: evict")
		} else {
			line("    no_ttl: keep")
		}
		line("    older_than: %s", formatAges(f.Rule))
		line("    keep_newest: %d", f.Rule.KeepNewest)
		if f.Rule.MinIdle > 0 {
			line("    min_idle: %s", ttlpolicy.FormatDuration(f.Rule.MinIdle))
		}
		if f.Broad {
			line("    broad: true")
		}
	}
	a := p.Alerts
	line("alerts: {memory_warning: %s, memory_critical: %s, hit_rate_below: %s, worker_restarts_per_hour: %d}",
		formatShare(a.MemoryWarning), formatShare(a.MemoryCritical), formatShare(a.HitRateBelow), a.WorkerRestartsPerHour)
	return b.Bytes()
}

func formatAges(r ttlpolicy.Rule) string {
	var ages []string
	for _, level := range ttlpolicy.Levels() {
		if age, ok := r.OlderThan[level]; ok {
			ages = append(ages, level.String()+": "+ttlpolicy.FormatDuration(age))
		}
	}
	return "{" + strings.Join(ages, ", ") + "}"
}

func formatLimit(l janitor.Limit) string {
	if l.From != "" {
		return l.From
	}
	return formatSize(l.Bytes)
}

func formatTarget(t janitor.Target) string {
	switch {
	case t.None:
		return "none"
	case t.Bytes > 0:
		return formatSize(t.Bytes)
	}
	return formatShare(t.Share)
}

// formatSize is exact, where ttlpolicy.FormatSize rounds for people.
func formatSize(n int64) string {
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"tb", 1 << 40}, {"gb", 1 << 30}, {"mb", 1 << 20}, {"kb", 1 << 10}} {
		if n >= unit.bytes && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatShare moves the point in the decimal text: 0.55 times 100 is 55.00000000000001.
func formatShare(share float64) string {
	whole, decimals, _ := strings.Cut(strconv.FormatFloat(share, 'f', -1, 64), ".")
	decimals += strings.Repeat("0", max(0, 2-len(decimals)))
	percent := strings.TrimLeft(whole+decimals[:2], "0")
	if percent == "" {
		percent = "0"
	}
	if rest := decimals[2:]; rest != "" {
		percent += "." + rest
	}
	return percent + "%"
}

func formatPatterns(patterns []string) string {
	quoted := make([]string, len(patterns))
	for i, p := range patterns {
		if utf8.ValidString(p) {
			quoted[i] = strconv.Quote(p)
		} else {
			quoted[i] = fmt.Sprintf("%s %q", binaryTag, base64.StdEncoding.EncodeToString([]byte(p)))
		}
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)

// text leaves a plain word unquoted. What else Go quotes, YAML reads alike: of valid UTF-8 Go
// escapes with \a \b \f \n \r \t \v \" \\ \xNN below 0x80, \u and \U, which all mean the same there.
func text(s string) string {
	if plain.MatchString(s) && !strings.EqualFold(s, "null") {
		return s
	}
	return strconv.Quote(s)
}
