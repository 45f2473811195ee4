package view

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"redis-janitor/janitor/health"
	"redis-janitor/ttlpolicy"
)

// Check shows a check as the monitoring plugins do (their development guidelines, "Plugin Output for
// Nagios"): one line with a verdict, and behind a bar the performance data. Verbose, more lines follow.
// Monitors take the bytes as they are, so there is never a colour, and nothing but ASCII.
func Check(opts Options, r *health.Report) error {
	r = cleaned(r, false)
	if opts.Quiet && r.Outcome == health.OK {
		return nil
	}
	message := r.Message
	if r.Outcome == health.Unknown && r.Hint != "" {
		message += "; " + r.Hint
	}
	var text strings.Builder
	// A bar would begin the performance data.
	fmt.Fprintf(&text, "REDIS %s - %s", strings.ToUpper(r.Outcome.String()), strings.ReplaceAll(message, "|", `\x7c`))
	if data := performance(r); data != "" {
		text.WriteString(" | " + data)
	}
	text.WriteByte('\n')
	if opts.Verbose {
		for _, line := range checkDetails(r) {
			text.WriteString(strings.ReplaceAll(line, "|", `\x7c`) + "\n")
		}
	}
	if _, err := io.WriteString(opts.Out, text.String()); err != nil {
		return fmt.Errorf("write the check: %w", err)
	}
	return nil
}

// perfdata collects 'label'=value[UOM];warn;crit;min;max. Values that are not known are U.
type perfdata struct{ items []string }

func (p *perfdata) add(label, value, unit, limits string) {
	if value == "U" {
		unit = ""
	}
	p.items = append(p.items, label+"="+value+unit+strings.TrimRight(limits, ";"))
}

func performance(r *health.Report) string {
	var p perfdata
	for i := range r.Nodes {
		n := &r.Nodes[i]
		label := func(name string) string {
			if len(r.Nodes) > 1 {
				// What would end a label: quotes and the sign behind it.
				return "'" + name + "@" + strings.NewReplacer("'", "_", "=", "_", "|", "_").Replace(n.Addr) + "'"
			}
			return name
		}
		m, warn, crit := n.Memory, "", ""
		for _, t := range m.Thresholds {
			switch t.Name {
			case "alert_warning":
				warn = strconv.FormatInt(t.Bytes, 10)
			case "alert_critical":
				crit = strconv.FormatInt(t.Bytes, 10)
			}
		}
		p.add(label("memory"), strconv.FormatInt(m.UsedBytes, 10), "B", fmt.Sprintf(";%s;%s;0;%d", warn, crit, m.LimitBytes))
		rate, latency := "U", "U"
		if interval := n.Interval; interval != nil {
			if interval.HitRate != nil {
				rate = strconv.FormatFloat(100**interval.HitRate, 'f', 2, 64)
			}
			if interval.MeanUS != nil {
				latency = strconv.FormatFloat(*interval.MeanUS, 'f', 2, 64)
			}
		}
		p.add(label("hit_rate"), rate, "%", fmt.Sprintf(";%s:;;0;100", strconv.FormatFloat(100*r.HitRateBelow, 'g', -1, 64)))
		p.add(label("latency"), latency, "us", ";;;0")
		for _, total := range []struct {
			name  string
			value *int64
		}{
			{"evicted_keys", n.Totals.EvictedKeys}, {"expired_keys", n.Totals.ExpiredKeys},
			{"rejected_connections", n.Totals.RejectedConnections}, {"command_errors", n.Totals.CommandErrors},
		} {
			p.add(label(total.name), decimal(total.value), "c", "")
		}
		p.add(label("uptime"), decimal(n.UptimeS), "s", "")
	}
	if w := r.Workers; w != nil {
		value := "U"
		if w.Restarts != nil {
			value = strconv.Itoa(*w.Restarts)
		}
		p.add("worker_restarts", value, "", fmt.Sprintf(";%d;;0", w.Over))
	}
	return strings.Join(p.items, " ")
}

func decimal(n *int64) string {
	if n == nil {
		return "U"
	}
	return strconv.FormatInt(*n, 10)
}

// told leaves out what is not known.
func told(n *int64, of string) string {
	if n == nil {
		return ""
	}
	return count(*n) + " " + of
}

// checkDetails are the lines that -v adds.
func checkDetails(r *health.Report) []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if r.Hint != "" {
		say("Next: %s", r.Hint)
	}
	for i := range r.Nodes {
		n := &r.Nodes[i]
		say("%s: %s", n.Addr, joined(n.Server, n.Role, "level "+n.Level.String()))
		for _, t := range n.Memory.Thresholds {
			when := "not within a year at this rate"
			switch {
			case t.Reached:
				when = "reached"
			case n.Memory.Trend == nil:
				when = "no trend yet"
			case t.InS != nil:
				when = fmt.Sprintf("in about %s, at %s", age(time.Duration(*t.InS)*time.Second), t.At.Format(time.RFC3339))
			}
			say("  memory %s, %.6g%% (%s): %s", t.Name, 100*t.Ratio, ttlpolicy.FormatSize(t.Bytes), when)
		}
		if interval := n.Interval; interval != nil {
			say("  since %s: %s", interval.Since.Format(time.RFC3339), joined(told(interval.EvictedKeys, "evicted by Redis"),
				told(interval.ExpiredKeys, "expired"), told(interval.RejectedConnections, "connections rejected"), told(interval.CommandErrors, "command errors")))
			for _, e := range interval.Errors[:min(len(interval.Errors), 5)] {
				say("    error %s: %s", e.Code, count(e.Count))
			}
			for _, c := range interval.Commands[:min(len(interval.Commands), 5)] {
				say("    %s: %s, %.1f us each", strings.ReplaceAll(c.Name, "|", " "), plural(c.Calls, "call", "calls"), c.MeanUS)
			}
		}
	}
	if r.StateFile != "" {
		say("History: %s", r.StateFile)
	}
	for _, w := range r.Warnings {
		say("Warning: %s: %s", w.Code, w.Message)
	}
	return lines
}
