package policyfile

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// reader walks a policy's nodes and remembers on which line each field stands.
type reader struct {
	file  string
	lines map[string]int // by path; "" is the root
}

// field is one that a mapping may have, and how its value is read.
type field struct {
	name string
	read func(path string, n *yaml.Node) error
}

func (r *reader) policy(root *yaml.Node, p *janitor.Policy) error {
	memory, busy, alerts := &p.Memory, &p.Busy, &p.Alerts
	return r.mapping("", root,
		scalar(r, "version", &p.Version, parseInt),
		scalar(r, "name", &p.Name, literal),
		r.group("memory",
			scalar(r, "limit", &memory.Limit, ParseLimit),
			scalar(r, "source", &memory.Source, oneOf("redis", "rss", "host", "cgroup")),
			r.group("levels",
				scalar(r, "cleanup", &memory.Levels.Cleanup, parseShare),
				scalar(r, "force", &memory.Levels.Force, parseShare),
				scalar(r, "critical", &memory.Levels.Critical, parseShare),
			),
			scalar(r, "target", &memory.Target, ParseTarget),
			scalar(r, "readings", &memory.Readings, parseInt),
			scalar(r, "every", &memory.Every, ttlpolicy.ParseDuration),
		),
		r.group("busy",
			scalar(r, "users_over", &busy.UsersOver, parseInt64),
			scalar(r, "users_from", &busy.UsersFrom, literal),
			scalar(r, "active_within", &busy.ActiveWithin, ttlpolicy.ParseDuration),
		),
		scalar(r, "cooldown", &p.Cooldown, ttlpolicy.ParseDuration),
		r.patterns("protect", &p.Protect),
		field{"families", func(path string, n *yaml.Node) error {
			return r.list(path, n, func(path string, n *yaml.Node) error {
				f, err := r.family(path, n)
				p.Families = append(p.Families, f)
				return err
			})
		}},
		r.group("alerts",
			scalar(r, "memory_warning", &alerts.MemoryWarning, parseShare),
			scalar(r, "memory_critical", &alerts.MemoryCritical, parseShare),
			scalar(r, "hit_rate_below", &alerts.HitRateBelow, parseShare),
			scalar(r, "worker_restarts_per_hour", &alerts.WorkerRestartsPerHour, parseInt),
		),
	)
}

func (r *reader) family(path string, n *yaml.Node) (janitor.Family, error) {
	var f janitor.Family
	levels := ttlpolicy.Levels()
	ages := make([]time.Duration, len(levels))
	olderThan := make([]field, len(levels))
	for i, level := range levels {
		olderThan[i] = scalar(r, level.String(), &ages[i], ttlpolicy.ParseDuration)
	}
	noTTL := "keep"
	err := r.mapping(path, n,
		scalar(r, "name", &f.Name, literal),
		r.patterns("match", &f.Match),
		scalar(r, "lifetime", &f.Rule.Lifetime, ttlpolicy.ParseDuration),
		scalar(r, "no_ttl", &noTTL, oneOf("evict", "keep")),
		r.group("older_than", olderThan...),
		scalar(r, "keep_newest", &f.Rule.KeepNewest, parseInt),
		scalar(r, "min_idle", &f.Rule.MinIdle, ttlpolicy.ParseDuration),
		scalar(r, "broad", &f.Broad, parseBool),
	)
	if err != nil {
		return f, err
	}
	for _, name := range []string{"name", "match", "lifetime"} {
		if _, given := r.lines[path+"."+name]; !given {
			return f, r.fail(path+"."+name, n, "is missing; every family needs a name, a match and a lifetime")
		}
	}
	f.Rule.Family = f.Name
	f.Rule.EvictNoTTL = noTTL == "evict"
	for i, level := range levels {
		// A level left out never evicts, where one at 0s evicts every key: only the line tells them apart.
		if _, given := r.lines[path+".older_than."+level.String()]; given {
			if f.Rule.OlderThan == nil {
				f.Rule.OlderThan = map[ttlpolicy.Level]time.Duration{}
			}
			f.Rule.OlderThan[level] = ages[i]
		}
	}
	return f, nil
}

// scalar is a field with a single value, read by parse.
func scalar[T any](r *reader, name string, into *T, parse func(string) (T, error)) field {
	return field{name, func(path string, n *yaml.Node) error {
		if err := r.expect(path, n, yaml.ScalarNode); err != nil {
			return err
		}
		if n.Tag == binaryTag {
			return r.fail(path, n, "%s is only for patterns; write the value itself", binaryTag)
		}
		value, err := parse(n.Value)
		if err != nil {
			return r.fail(path, n, "%v", err)
		}
		*into = value
		return nil
	}}
}

// group is a field with fields of its own.
func (r *reader) group(name string, fields ...field) field {
	return field{name, func(path string, n *yaml.Node) error { return r.mapping(path, n, fields...) }}
}

// patterns is a field with a list of patterns, or with a single one.
func (r *reader) patterns(name string, into *[]string) field {
	add := func(path string, n *yaml.Node) error {
		if err := r.expect(path, n, yaml.ScalarNode); err != nil {
			return err
		}
		pattern := n.Value
		if n.Tag == binaryTag {
			raw, err := base64.StdEncoding.DecodeString(pattern)
			if err != nil {
				return r.fail(path, n, "%s needs base64: %v", binaryTag, err)
			}
			pattern = string(raw)
		}
		*into = append(*into, pattern)
		return nil
	}
	return field{name, func(path string, n *yaml.Node) error {
		if n.Kind == yaml.ScalarNode {
			return add(path, n)
		}
		return r.list(path, n, add)
	}}
}

func (r *reader) mapping(path string, n *yaml.Node, fields ...field) error {
	if err := r.expect(path, n, yaml.MappingNode); err != nil {
		return err
	}
	known := make([]string, len(fields))
	readers := make(map[string]func(string, *yaml.Node) error, len(fields))
	for i, f := range fields {
		known[i], readers[f.name] = f.name, f.read
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			return r.fail(path, key, "merge keys (<<) are not accepted: a policy must read as written; repeat the fields")
		}
		if err := r.expect(path, key, yaml.ScalarNode); err != nil {
			return err
		}
		at := strings.TrimPrefix(path+"."+word(key.Value), ".")
		read, ok := readers[key.Value]
		if !ok {
			return r.fail(at, key, "unknown field %s%s", word(key.Value), suggest(key.Value, known))
		}
		if first, twice := r.lines[at]; twice {
			return r.fail(at, key, "stands here and already on line %d; remove one", first)
		}
		r.lines[at] = key.Line
		if err := read(at, value); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) list(path string, n *yaml.Node, item func(path string, n *yaml.Node) error) error {
	if err := r.expect(path, n, yaml.SequenceNode); err != nil {
		return err
	}
	for i, c := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		r.lines[at] = c.Line
		if err := item(at, c); err != nil {
			return err
		}
	}
	return nil
}

const binaryTag = "!!binary"

// expect refuses a node of another kind, and whatever would make a value differ from the text in its place.
func (r *reader) expect(path string, n *yaml.Node, kind yaml.Kind) error {
	tagged := n.Style&yaml.TaggedStyle != 0
	switch {
	// An alias comes after its anchor, so that this refuses both.
	case n.Anchor != "":
		return r.fail(path, n, `anchors (&%s) are not accepted: a policy must read as written; remove it, and quote text that begins with &`, n.Anchor)
	case tagged && (n.Kind != yaml.ScalarNode || n.Tag != "!!str" && n.Tag != binaryTag):
		return r.fail(path, n, "the tag %s is not accepted; remove it", word(n.Tag))
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null" && kind == yaml.ScalarNode && n.Value != "":
		return r.fail(path, n, "%s is YAML for no value; write a value, or quote it where the word itself is meant", n.Value)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return r.fail(path, n, "has no value; write one, or leave the field out")
	case n.Kind != kind:
		return r.fail(path, n, "needs %s, and this is %s", kindName(kind), kindName(n.Kind))
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		// A block scalar brings its line end along, and a pattern with one matches nothing.
		return r.fail(path, n, "must stand on one line; write it without | or >")
	}
	return nil
}

func kindName(k yaml.Kind) string {
	switch k {
	case yaml.MappingNode:
		return "a mapping (name: value)"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

func (r *reader) fail(path string, n *yaml.Node, format string, args ...any) error {
	return &Error{File: r.file, Line: n.Line, Field: path, Msg: fmt.Sprintf(format, args...)}
}

// word prints a name as it is, or quoted where it could be taken for something else.
func word(s string) string {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-!", r)
	}
	if s == "" || strings.ContainsFunc(s, odd) {
		return strconv.Quote(s)
	}
	return s
}
