package janitor

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"redis-janitor/patterns"
	"redis-janitor/ttlpolicy"
)

// Policy says what may be evicted, when, and how far down.
type Policy struct {
	Version  int
	Name     string
	Memory   MemoryPolicy
	Busy     BusyPolicy
	Cooldown time.Duration // after an eviction, only the critical level acts for so long
	Protect  []string      // globs; a key that one of them matches is never evicted
	Families []Family
	Alerts   Alerts
}

// MemoryPolicy says how memory is judged.
type MemoryPolicy struct {
	Limit    Limit
	Source   string // redis, rss, host or cgroup
	Levels   ttlpolicy.Thresholds
	Target   Target
	Readings int           // consecutive readings that must agree before acting
	Every    time.Duration // between two readings
}

// Limit is the memory that ratios are taken of: a number of bytes, or where to read it.
type Limit struct {
	Bytes int64
	From  string // "" for Bytes, or "maxmemory", or "system"
}

// Target is where an eviction stops: a share of the limit, a number of bytes, or never.
type Target struct {
	Share float64
	Bytes int64
	None  bool // evict all that is eligible
}

// BusyPolicy says when too many people are at work to be interrupted.
type BusyPolicy struct {
	UsersOver    int64
	UsersFrom    string // family:NAME, key:NAME, clients or none
	ActiveWithin time.Duration
}

// Family is a named set of patterns with the rule for its keys.
type Family struct {
	Name  string
	Match []string
	Broad bool // patterns with a fixed prefix below patterns.MinFixedPrefix are meant
	Rule  ttlpolicy.Rule
}

// Alerts are the thresholds of check.
type Alerts struct {
	MemoryWarning         float64
	MemoryCritical        float64
	HitRateBelow          float64
	WorkerRestartsPerHour int
}

// Combot is the built-in policy: the families of the chatbot backend that this tool was first
// written for, on a machine with 8 GiB.
func Combot() Policy {
	p := Defaults()
	p.Name = "combot"
	p.Protect = []string{"celery*", "_kombu*", "unacked*"}
	p.Families = []Family{
		{Name: "ml-results", Match: []string{"ml_results:*"}, Rule: ttlpolicy.Rule{
			Family: "ml-results", Lifetime: 2 * time.Hour, EvictNoTTL: true,
			OlderThan: map[ttlpolicy.Level]time.Duration{ttlpolicy.Cleanup: 0, ttlpolicy.Force: 0, ttlpolicy.Critical: 0},
		}},
		{Name: "app-cache", Match: []string{"combot_cache:*"}, Rule: ttlpolicy.Rule{
			Family: "app-cache", Lifetime: time.Hour,
			OlderThan: map[ttlpolicy.Level]time.Duration{
				ttlpolicy.Cleanup: 45 * time.Minute, ttlpolicy.Force: 30 * time.Minute, ttlpolicy.Critical: 15 * time.Minute},
		}},
		{Name: "sessions", Match: []string{"combot_cache:1:django.contrib.sessions.cache*"}, Rule: ttlpolicy.Rule{
			Family: "sessions", Lifetime: 30 * time.Minute,
			OlderThan: map[ttlpolicy.Level]time.Duration{
				ttlpolicy.Force: 25 * time.Minute, ttlpolicy.Critical: 20 * time.Minute},
		}},
	}
	return p
}

// Defaults is what a policy file that leaves something out is completed with. It has no families
// and protects nothing: those a policy must name itself.
func Defaults() Policy {
	return Policy{
		Version: 1,
		Memory: MemoryPolicy{
			Limit:    Limit{Bytes: 8 << 30},
			Source:   "redis",
			Levels:   ttlpolicy.Thresholds{Cleanup: 0.60, Force: 0.75, Critical: 0.85},
			Target:   Target{Share: 0.55},
			Readings: 1,
			Every:    time.Second,
		},
		Busy:     BusyPolicy{UsersOver: 20, UsersFrom: "family:sessions", ActiveWithin: 5 * time.Minute},
		Cooldown: 2 * time.Minute,
		Alerts:   Alerts{MemoryWarning: 0.80, MemoryCritical: 0.85, HitRateBelow: 0.60, WorkerRestartsPerHour: 10},
	}
}

// FieldError is a mistake in one field of a policy. Path names the field as the policy file
// spells it: "families[1].older_than.force".
type FieldError struct {
	Path string
	Msg  string
}

func (e *FieldError) Error() string { return e.Path + ": " + e.Msg }

// Validate finds the first thing in a policy that cannot be meant, as a *FieldError.
func (p Policy) Validate() error {
	if p.Version != 1 {
		return &FieldError{"version", fmt.Sprintf("%d is not a version this janitor knows; write 1", p.Version)}
	}
	if err := p.Memory.validate(); err != nil {
		return err
	}
	if err := p.validateBusy(); err != nil {
		return err
	}
	if p.Cooldown < 0 {
		return &FieldError{"cooldown", "must not be negative"}
	}
	for i, pattern := range p.Protect {
		if pattern == "" {
			return &FieldError{fmt.Sprintf("protect[%d]", i), "an empty pattern protects nothing; remove it"}
		}
	}
	if err := p.Alerts.validate(); err != nil {
		return err
	}
	return p.validateFamilies()
}

func (a Alerts) validate() error {
	if a.MemoryWarning > a.MemoryCritical {
		return &FieldError{"alerts.memory_warning", fmt.Sprintf("%.6g%% lies above memory_critical at %.6g%%", 100*a.MemoryWarning, 100*a.MemoryCritical)}
	}
	if a.WorkerRestartsPerHour < 0 {
		return &FieldError{"alerts.worker_restarts_per_hour", "must not be negative"}
	}
	return nil
}

// TargetFits holds that a target that is a size lies below the lowest level of a limit. Where the limit is what a server
// says, that can be told only then.
func (m MemoryPolicy) TargetFits(limit int64) error {
	lowest := m.Levels.Cleanup * float64(limit)
	if m.Target.None || float64(m.Target.Bytes) <= lowest {
		return nil
	}
	from := ""
	if m.Limit.From != "" {
		from = fmt.Sprintf(", %.6g%% of %s %s", m.Levels.Cleanup*100, m.Limit.From, ttlpolicy.FormatSize(limit))
	}
	return &FieldError{"memory.target", fmt.Sprintf("%s lies above the lowest level, cleanup at %s%s: each run would find work again at once",
		ttlpolicy.FormatSize(m.Target.Bytes), ttlpolicy.FormatSize(int64(lowest)), from)}
}

func (m MemoryPolicy) validate() error {
	if m.Limit.From == "" && m.Limit.Bytes <= 0 {
		return &FieldError{"memory.limit", "must be above zero"}
	}
	if m.Limit.From != "" && m.Limit.From != "maxmemory" && m.Limit.From != "system" {
		return &FieldError{"memory.limit", fmt.Sprintf("%q is neither a size nor maxmemory or system", m.Limit.From)}
	}
	switch m.Source {
	case "redis", "rss", "host", "cgroup":
	default:
		return &FieldError{"memory.source", fmt.Sprintf("%q is unknown; use redis, rss, host or cgroup", m.Source)}
	}
	if err := m.Levels.Validate(); err != nil {
		return &FieldError{"memory.levels", err.Error()}
	}
	switch {
	case m.Target.None:
	case m.Target.Bytes < 0 || m.Target.Share < 0:
		return &FieldError{"memory.target", "must not be negative"}
	case m.Target.Share > m.Levels.Cleanup:
		return &FieldError{"memory.target", fmt.Sprintf("%.6g%% lies above the lowest level, cleanup at %.6g%%: each run would find work again at once",
			m.Target.Share*100, m.Levels.Cleanup*100)}
	}
	if m.Limit.From == "" {
		if err := m.TargetFits(m.Limit.Bytes); err != nil {
			return err
		}
	}
	if m.Readings < 1 || m.Readings > 1000 {
		return &FieldError{"memory.readings", "must be from 1 to 1000"}
	}
	if m.Readings > 1 && m.Every <= 0 {
		return &FieldError{"memory.every", "must be above zero where more than one reading is asked for"}
	}
	return nil
}

func (p Policy) validateBusy() error {
	if p.Busy.UsersOver < 0 {
		return &FieldError{"busy.users_over", "must not be negative"}
	}
	if p.Busy.ActiveWithin < 0 {
		return &FieldError{"busy.active_within", "must not be negative"}
	}
	kind, name, _ := strings.Cut(p.Busy.UsersFrom, ":")
	switch {
	case p.Busy.UsersFrom == "none", p.Busy.UsersFrom == "clients":
	case kind == "key" && name != "":
	case kind == "family" && name != "":
		// The default names a family that another application's policy need not have: then nobody
		// can be counted, which the busy gate says as users_unknown.
		if p.familyIndex(name) < 0 && p.Busy.UsersFrom != Defaults().Busy.UsersFrom {
			return &FieldError{"busy.users_from", fmt.Sprintf("there is no family %q; known are %s", name, p.familyNames())}
		}
	default:
		return &FieldError{"busy.users_from", fmt.Sprintf("%q is unknown; use family:NAME, key:NAME, clients or none", p.Busy.UsersFrom)}
	}
	return nil
}

func (p Policy) validateFamilies() error {
	if len(p.Families) == 0 {
		return &FieldError{"families", "a policy without families would evict nothing; name at least one"}
	}
	seen := map[string]int{}
	for i, f := range p.Families {
		at := func(field string) string { return fmt.Sprintf("families[%d].%s", i, field) }
		if f.Name == "" {
			return &FieldError{at("name"), "every family needs a name"}
		}
		if strings.ContainsFunc(f.Name, func(r rune) bool { return r < '!' || r == 0x7f }) {
			return &FieldError{at("name"), "must not hold spaces or control characters"}
		}
		if first, dup := seen[f.Name]; dup {
			return &FieldError{at("name"), fmt.Sprintf("%q is already the name of families[%d]", f.Name, first)}
		}
		seen[f.Name] = i
		if len(f.Match) == 0 {
			return &FieldError{at("match"), "every family needs at least one pattern"}
		}
		for j, m := range f.Match {
			if m == "" {
				return &FieldError{fmt.Sprintf("families[%d].match[%d]", i, j), "an empty pattern matches only the key with the empty name"}
			}
		}
		if f.Rule.Lifetime <= 0 {
			return &FieldError{at("lifetime"), "must be above zero: ages are lifetime − remaining TTL"}
		}
		if f.Rule.KeepNewest < 0 {
			return &FieldError{at("keep_newest"), "must not be negative"}
		}
		if f.Rule.MinIdle < 0 {
			return &FieldError{at("min_idle"), "must not be negative"}
		}
		for _, level := range ttlpolicy.Levels() {
			if age, ok := f.Rule.OlderThan[level]; ok && age > f.Rule.Lifetime {
				return &FieldError{at("older_than." + level.String()), fmt.Sprintf("%s lies above the lifetime of %s, so no key could ever be that old",
					ttlpolicy.FormatDuration(age), ttlpolicy.FormatDuration(f.Rule.Lifetime))}
			}
		}
	}
	if _, err := p.Patterns(); err != nil {
		var tie *patterns.TieError
		if errors.As(err, &tie) {
			return &FieldError{fmt.Sprintf("families[%d].match", tie.FamilyB), err.Error()}
		}
		return &FieldError{"families", err.Error()}
	}
	return nil
}

// Patterns compiles what the families and the protection match.
func (p Policy) Patterns() (*patterns.Set, error) {
	families := make([]patterns.Family, len(p.Families))
	for i, f := range p.Families {
		families[i].Name = f.Name
		for _, m := range f.Match {
			families[i].Match = append(families[i].Match, patterns.Compile(m))
		}
	}
	protect := make([]patterns.Glob, len(p.Protect))
	for i, m := range p.Protect {
		protect[i] = patterns.Compile(m)
	}
	return patterns.NewSet(families, protect)
}

// Rules lists the families' rules in the order in which they are evicted.
func (p Policy) Rules() []ttlpolicy.Rule {
	rules := make([]ttlpolicy.Rule, len(p.Families))
	for i, f := range p.Families {
		rules[i] = f.Rule
	}
	return rules
}

// BroadPatterns lists the patterns that are refused because their fixed prefix is too short and
// their family does not say that it is meant.
func (p Policy) BroadPatterns() []string {
	var broad []string
	for _, f := range p.Families {
		if f.Broad {
			continue
		}
		for _, m := range f.Match {
			if patterns.Broad(patterns.Compile(m)) {
				broad = append(broad, fmt.Sprintf("%s of family %s", patterns.Quote(m), f.Name))
			}
		}
	}
	return broad
}

// SHA256 is the digest of everything the policy says, in hex: two policies with the same digest
// decide alike.
func (p Policy) SHA256() string {
	// Go's own syntax keeps every byte of a pattern apart, also where it is no UTF-8, and fmt sorts maps.
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", p))
	return hex.EncodeToString(sum[:])
}

func (p Policy) familyIndex(name string) int {
	for i, f := range p.Families {
		if f.Name == name {
			return i
		}
	}
	return -1
}

func (p Policy) familyNames() string {
	names := make([]string, len(p.Families))
	for i, f := range p.Families {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}
