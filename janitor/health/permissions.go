package health

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"redis-janitor/janitor"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/patterns"
)

// PermissionReport is one rule of docs/acl.md and whether the user has it.
type PermissionReport struct {
	Node   string `json:"node"`
	Rule   string `json:"rule"`
	Needed bool   `json:"needed"` // without it nothing is evicted, or a family stays; else something is only warned of
	Has    *bool  `json:"has"`    // null: cannot be told
}

// rule is what is asked about, and by which command.
type rule struct {
	text    string
	needed  bool
	command []any
	writes  bool
}

// probeKey exists nowhere, so that what is asked about it finds nothing.
const probeKey = "redis-janitor:is-this-permitted"

// rulesFor lists what a command needs under a policy, as docs/acl.md has it.
func rulesFor(command janitor.Command, policy janitor.Policy) []rule {
	key := probeKey
	rules := []rule{}
	for _, family := range policy.Families {
		for _, pattern := range family.Match {
			name := member(pattern)
			if key == probeKey {
				key = name
			}
			rules = append(rules, rule{"~" + pattern, true, []any{"PTTL", name}, false})
		}
	}
	reads := []rule{
		{"+info", true, []any{"INFO", "server"}, false},
		{"+dbsize", true, []any{"DBSIZE"}, false},
		{"+scan", true, []any{"SCAN", 0, "COUNT", 1}, false},
		{"+pttl", true, []any{"PTTL", key}, false},
		{"+memory|usage", true, []any{"MEMORY", "USAGE", key}, false},
		{"+ping", false, []any{"PING"}, false},
		{"+client|setname", false, []any{"CLIENT", "SETNAME", "redis-janitor"}, false},
		{"+randomkey", false, []any{"RANDOMKEY"}, false},
		{"+type", false, []any{"TYPE", key}, false},
		{"+object|encoding", false, []any{"OBJECT", "ENCODING", key}, false},
		{"~" + keyspace.CooldownKey + "*", false, []any{"PTTL", keyspace.CooldownKey}, false},
	}
	for _, r := range policy.Rules() {
		if r.MinIdle > 0 {
			reads = append(reads, rule{"+object|idletime", true, []any{"OBJECT", "IDLETIME", key}, false})
			break
		}
	}
	if from, name, _ := strings.Cut(policy.Busy.UsersFrom, ":"); from == "key" {
		reads = append(reads, rule{"~" + name, false, []any{"TYPE", name}, false})
	}
	rules = append(rules, reads...)
	if command != janitor.Execute {
		return rules
	}
	// Each family's keys once more: they may be there to be read only.
	for _, family := range policy.Families {
		for _, pattern := range family.Match {
			rules = append(rules, rule{"~" + pattern + " +unlink", true, []any{"UNLINK", member(pattern)}, true})
		}
	}
	return append(rules,
		rule{"+script|load", true, []any{"SCRIPT", "LOAD", "return 1"}, true},
		rule{"+evalsha", true, []any{"EVALSHA", strings.Repeat("0", 40), 1, key}, true},
		rule{"+hget", true, []any{"HGET", keyspace.LeaseKey, "token"}, true},
		rule{"+hgetall", false, []any{"HGETALL", keyspace.LeaseKey}, false},
		rule{"+hset", false, []any{"HSET", keyspace.LeaseKey, "token", "t"}, true},
		rule{"+pexpire", false, []any{"PEXPIRE", keyspace.LeaseKey, 1}, true},
		rule{"+del", false, []any{"DEL", keyspace.LeaseKey}, true},
		rule{"+set", false, []any{"SET", keyspace.CooldownKey, "v", "PX", 1}, true},
	)
}

// member is a name that a pattern matches and that is nobody's.
func member(pattern string) string {
	prefix := pattern
	if at := strings.IndexAny(pattern, `*?[\`); at >= 0 {
		prefix = pattern[:at]
	}
	return prefix + probeKey
}

// matched tells whether the made-up names are the families', so that what is said of them holds for these.
func matched(policy janitor.Policy) (map[string]bool, error) {
	set, err := policy.Patterns()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, family := range policy.Families {
		for _, pattern := range family.Match {
			names["~"+pattern] = set.Classify(member(pattern)).Family >= 0
		}
	}
	return names, nil
}

// Permissions tells which of the rules that a command needs the Redis user lacks, without sending a
// command that writes.
func Permissions(ctx context.Context, req Request, command janitor.Command, env Env) *Report {
	c := &check{req: req, env: env, report: newReport(req.Version, env.Now())}
	c.report.Policy = janitor.PolicyReport{Name: req.Policy.Name, SHA256: req.Policy.SHA256()}
	if err := c.permissions(ctx, command); err != nil {
		c.report.refused(err)
	} else {
		c.report.judgePermissions(command)
	}
	c.report.DurationMS = env.Now().Sub(c.report.StartedAt).Milliseconds()
	return c.report
}

func (c *check) permissions(ctx context.Context, command janitor.Command) error {
	options := c.req.Connection
	options.Mode = keyspace.Reading
	known, err := matched(c.req.Policy)
	if err != nil {
		return err
	}
	space, err := keyspace.Open(ctx, options)
	if err != nil {
		return err
	}
	rules := rulesFor(command, c.req.Policy)
	needs := make([]keyspace.Need, len(rules))
	for i, r := range rules {
		needs[i] = keyspace.Need{Command: r.command, Writes: r.writes, OfKeys: strings.HasPrefix(r.text, "~") && !r.writes}
	}
	for _, d := range space.Down() {
		c.warn(d.Addr, "node_down", "%s", d.Err)
	}
	for _, node := range space.Nodes() {
		grants, askErr := node.Grants(ctx, needs)
		if askErr != nil {
			err = askErr
			break
		}
		for i, r := range rules {
			p := PermissionReport{Node: node.Addr(), Rule: r.text, Needed: r.needed}
			if sure, isPattern := known[strings.TrimSuffix(r.text, " +unlink")]; grants[i] != keyspace.Unclear && (sure || !isPattern) {
				has := grants[i] == keyspace.Granted
				p.Has = &has
			}
			c.report.Permissions = append(c.report.Permissions, p)
		}
	}
	return errors.Join(err, space.Close())
}

// judgePermissions is critical where a needed rule is missing, a warning where another one is, and unknown
// where one can't be told.
func (r *Report) judgePermissions(command janitor.Command) {
	var needed, others, untold []string
	add := func(list *[]string, p PermissionReport, state State, why string) {
		name := patterns.Quote(p.Rule)
		if name == `"`+p.Rule+`"` {
			name = p.Rule
		}
		if !strings.Contains(" "+strings.Join(*list, ", ")+",", " "+name+",") {
			*list = append(*list, name)
		}
		r.Alerts = append(r.Alerts, Alert{"permission", state, p.Node, fmt.Sprintf("%s %s %s", name, why, p.Node)})
	}
	for _, p := range r.Permissions {
		switch {
		case p.Has == nil:
			add(&untold, p, Unknown, "cannot be told on")
		case *p.Has:
		case p.Needed:
			add(&needed, p, Critical, "is missing on")
		default:
			add(&others, p, Warning, "is missing on")
		}
	}
	var said []string
	say := func(list []string, what string, state State) {
		if len(list) > 0 {
			said = append(said, what+" "+strings.Join(list, ", "))
			if state.worse(r.Outcome) {
				r.Outcome = state
			}
		}
	}
	say(needed, "missing and needed:", Critical)
	say(others, "missing, and done without:", Warning)
	say(untold, "cannot be told:", Unknown)
	r.Reason = "ok"
	if r.Outcome != OK {
		r.Reason, r.Hint = "permission", "docs/acl.md has the rules; allow +acl|whoami and +acl|dryrun (Redis 7.0) to have all of them told"
	}
	if len(said) == 0 {
		said = []string{"all there"}
	}
	for _, w := range r.Warnings {
		if w.Code == "node_down" {
			said = append(said, w.Message)
			if Unknown.worse(r.Outcome) {
				r.Outcome, r.Reason = Unknown, "node_down"
			}
		}
	}
	r.ExitCode, r.Message = int(r.Outcome), fmt.Sprintf("permissions for %s: %s", command, strings.Join(said, "; "))
}
