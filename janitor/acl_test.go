package janitor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// aclPage is docs/acl.md: what stands there is what these tests give the server.
func aclPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/acl.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// documentedRules are what the page's block under a heading gives the user.
func documentedRules(t *testing.T, heading string) []string {
	t.Helper()
	_, section, _ := strings.Cut(aclPage(t), "\n## "+heading+"\n")
	_, block, _ := strings.Cut(section, "\n```acl\n")
	block, _, found := strings.Cut(block, "\n```\n")
	words := strings.Fields(block)
	if !found || len(words) < 5 || !slices.Equal(words[:3], []string{"ACL", "SETUSER", "janitor"}) || !slices.Contains(words, ">PASSWORD") {
		t.Fatalf("docs/acl.md has no rules under %q: %q", heading, words)
	}
	return words[3:]
}

const (
	planRules    = "Plan and dry-run, Redis 7.0 and later"
	executeRules = "Execute, Redis 7.0 and later"
	oldRules     = "Execute, Redis 6.2"
)

// grantRules gives the server's user janitor the rules, and nothing that it had before.
func grantRules(t *testing.T, c *redis.Client, rules []string) {
	t.Helper()
	command := []any{"ACL", "SETUSER", "janitor"}
	for _, rule := range rules {
		command = append(command, strings.ReplaceAll(rule, "PASSWORD", "secret"))
	}
	do(t, c, command, []any{"ACL", "LOG", "RESET"})
}

func asDocumentedUser(r *janitor.Request) {
	r.Connection.Username, r.Connection.Password = "janitor", "secret"
}

// aclRefusals are what the server has refused since grantRules.
func aclRefusals(t *testing.T, c *redis.Client) []any {
	t.Helper()
	log, err := c.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// plantForACL is enough for the survey to draw a sample rather than look at every key.
func plantForACL(t *testing.T, c *redis.Client) {
	t.Helper()
	plant(t, c, func(p *planter) {
		for i := range 6000 {
			p.set("ml_results:"+md5Of(i), time.Duration(10+i%90)*time.Minute)
		}
		for i := range 500 {
			p.set("combot_cache:1:"+md5Of(i), time.Duration(5+i%50)*time.Minute)
			p.set("user:"+md5Of(i), never)
		}
	})
}

func TestTheDocumentedUsersCanDoTheirJobAndNothingElse(t *testing.T) {
	for _, user := range []struct {
		heading  string
		commands []janitor.Command
		mayDel   bool // where the server has no way to say otherwise
	}{
		{planRules, []janitor.Command{janitor.Plan, janitor.DryRun}, false},
		{executeRules, []janitor.Command{janitor.Plan, janitor.DryRun, janitor.Execute}, false},
		{oldRules, []janitor.Command{janitor.Plan, janitor.DryRun, janitor.Execute}, true},
	} {
		t.Run(user.heading, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			plantForACL(t, c)
			grantRules(t, c, documentedRules(t, user.heading))
			pressed := atRatio(t, c, 0.78)
			if !user.mayDel { // these users may also read by whom a pause was set
				do(t, c, []any{"SET", pauseKey, "somebody"})
				r := clean(t, s, command(janitor.Plan), pressed, asDocumentedUser)
				if !strings.Contains(fmt.Sprint(r.Warnings), `"somebody"`) {
					t.Errorf("a pause is not told of: %+v", r.Warnings)
				}
				do(t, c, []any{"DEL", pauseKey})
			}
			do(t, c, []any{"HSET", leaseKey, "token", "t", "holder", "another", "since", "now"}, []any{"PEXPIRE", leaseKey, 60_000})
			for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun} {
				r := clean(t, s, command(cmd), pressed, asDocumentedUser)
				expect(t, r, janitor.Planned, janitor.TargetReached, 0)
				if expectWarning(t, r, "lease_held"); !strings.Contains(fmt.Sprint(r.Warnings), "another janitor is at work: another, since now") {
					t.Errorf("%s: who is at work is not told: %+v", cmd, r.Warnings)
				}
			}
			do(t, c, []any{"DEL", leaseKey})
			for _, cmd := range user.commands {
				r := clean(t, s, command(cmd), pressed, asDocumentedUser)
				want := janitor.Planned
				if cmd == janitor.Execute {
					want = janitor.Evicted
				}
				expect(t, r, want, janitor.TargetReached, 0)
				for _, code := range []string{"no_lease", "no_cooldown", "sample_not_random", "users_unknown", "pause_unknown", "lease_held"} {
					if hasWarning(r, code) {
						t.Errorf("%s: warned of %s: %+v", cmd, code, r.Warnings)
					}
				}
			}
			// It tried nothing that the rules don't give it: what left the process is within them.
			if log := aclRefusals(t, c); len(log) > 0 {
				t.Errorf("the server refused: %v", log)
			}
			janitorClient := redis.NewClient(&redis.Options{Addr: s.Addr, Username: "janitor", Password: "secret", Protocol: 2, DisableIdentity: true, MaxRetries: -1})
			defer janitorClient.Close()
			if user.mayDel {
				do(t, janitorClient, []any{"DEL", "ml_results:nobody's"})
			}
			for _, forbidden := range [][]any{
				{"FLUSHALL"}, {"FLUSHDB"}, {"KEYS", "*"}, {"GET", "ml_results:" + md5Of(1)}, {"CONFIG", "GET", "*"}, {"CONFIG", "SET", "save", ""},
				{"DEL", "ml_results:" + md5Of(1)}, {"UNLINK", "user:" + md5Of(1)}, {"SWAPDB", 0, 1}, {"SHUTDOWN"},
				{"EVAL", "return redis.call('FLUSHALL')", 0}, {"ACL", "SETUSER", "janitor", "+@all"},
			} {
				if user.mayDel && forbidden[0] == "DEL" {
					continue
				}
				if err := janitorClient.Do(t.Context(), forbidden...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
					t.Errorf("%v: %v, want NOPERM", forbidden, err)
				}
			}
			if user.heading == planRules {
				for _, writing := range [][]any{{"UNLINK", "ml_results:" + md5Of(1)}, {"SCRIPT", "LOAD", "return 1"}, {"EVALSHA", strings.Repeat("0", 40), 0}} {
					if err := janitorClient.Do(t.Context(), writing...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
						t.Errorf("%v: %v, want NOPERM", writing, err)
					}
				}
			}
		})
	}
}

// aclRow is a line of the page's table: rules, what they are for, and what happens without one of them.
var aclRow = regexp.MustCompile("(?m)^\\| (`[+~][^|]*(?:\\\\\\|[^|]*)*) \\| [^|]* \\| (.*) \\|$")

// withoutRule is what the page says of each rule.
func withoutRule(t *testing.T) map[string]string {
	t.Helper()
	_, table, _ := strings.Cut(aclPage(t), "\n## What each rule is for\n")
	table, _, _ = strings.Cut(table, "\nSome policies need more:\n")
	said := map[string]string{}
	for _, row := range aclRow.FindAllStringSubmatch(table, -1) {
		for _, quoted := range regexp.MustCompile("`[^`]+`").FindAllString(row[1], -1) {
			said[strings.ReplaceAll(strings.Trim(quoted, "`"), `\|`, "|")] = row[2]
		}
	}
	return said
}

func TestWithoutADocumentedRuleHappensWhatThePageSays(t *testing.T) {
	rules, said := documentedRules(t, executeRules), withoutRule(t)
	for _, rule := range rules {
		if rule = strings.Trim(rule, "()"); strings.ContainsAny(rule[:1], "+~") && said[rule] == "" {
			t.Errorf("the page does not say what %s is for", rule)
		}
	}
	s := redistest.Start(t)
	c := s.Client()
	plantForACL(t, c)
	pressed := atRatio(t, c, 0.78)
	for rule, without := range said {
		t.Run(rule, func(t *testing.T) {
			defer do(t, c, []any{"UNLINK", leaseKey, cooldownKey})
			rest := slices.Clone(rules)
			at := slices.IndexFunc(rest, func(r string) bool { return strings.Trim(r, "()") == rule })
			if at < 0 {
				t.Fatal("the rules don't have it")
			}
			// A parenthesis stays where it was.
			if rest[at] = strings.Replace(rest[at], rule, "", 1); rest[at] == "" {
				rest = slices.Delete(rest, at, at+1)
			}
			grantRules(t, c, rest)
			if rule == "+get" { // which is for nothing else
				do(t, c, []any{"SET", pauseKey, "somebody"})
				defer do(t, c, []any{"DEL", pauseKey})
				r := clean(t, s, pressed, asDocumentedUser)
				expect(t, r, janitor.Skipped, janitor.Paused, 0)
				if len(aclRefusals(t, c)) == 0 || !strings.Contains(r.Message, "cannot be told") || !strings.HasPrefix(without, "the pause holds") {
					t.Errorf("%q, and the page says %q", r.Message, without)
				}
				return
			}
			size := dbSize(t, c)
			r := clean(t, s, pressed, asDocumentedUser, func(r *janitor.Request) { r.MaxKeys = 3 })
			if len(aclRefusals(t, c)) == 0 {
				t.Error("nothing was refused, so the rule is not needed")
			}
			if strings.HasPrefix(rule, "~") && rule != "~redis-janitor*" {
				for _, f := range r.Nodes[0].Families {
					if strings.HasPrefix(rule, "~ml") == (f.Name == "ml-results") && f.Evicted > 0 {
						t.Errorf("%d keys of %s went", f.Evicted, f.Name)
					}
				}
				if r.Reason != "noperm" && !strings.Contains(without, "stay, as `unknown`") {
					t.Errorf("%s, %s, exit %d: %s", r.Outcome, r.Reason, r.ExitCode, r.Message)
				}
				return
			}
			if strings.HasPrefix(without, "`noperm`, exit 5") {
				if r.Outcome != janitor.Refused || r.Reason != "noperm" || r.ExitCode != janitor.ExitNoServer || r.Hint == "" {
					t.Errorf("%s, %s, exit %d: %s (%s)", r.Outcome, r.Reason, r.ExitCode, r.Message, r.Hint)
				}
				do(t, c, []any{"UNLINK", leaseKey, cooldownKey})
				if now := dbSize(t, c); now != size {
					t.Errorf("%d keys are left of %d", now, size)
				}
				return
			}
			expect(t, r, janitor.Incomplete, janitor.MaxKeys, janitor.ExitIncomplete)
			if r.Totals.Evicted != 3 {
				t.Errorf("%d keys went", r.Totals.Evicted)
			}
			if strings.HasPrefix(without, "warned") {
				for _, code := range regexp.MustCompile("`[^`]+`").FindAllString(without, -1) {
					expectWarning(t, r, strings.Trim(code, "`"))
				}
			}
			if there := keyExists(t, c, leaseKey); there != (rule == "+del") {
				t.Errorf("the lease is left: %t", there)
			}
			if there := keyExists(t, c, cooldownKey); rule == "+set" && there {
				t.Error("there is a cooldown")
			}
		})
	}
}

func TestWhatSomePoliciesNeedMoreIsEnough(t *testing.T) {
	rules := documentedRules(t, executeRules)
	_, more, _ := strings.Cut(aclPage(t), "\nSome policies need more:\n")
	s := redistest.Start(t)
	c := s.Client()
	plantForACL(t, c)
	plantForACL(t, s.ClientDB(1))
	do(t, c, []any{"SADD", "online", "a", "b"})
	for _, extra := range []struct {
		rules  []string
		change func(*janitor.Request)
		lacks  func(*janitor.Report) bool
	}{
		{[]string{"+select"}, inDB(s, 1), func(r *janitor.Report) bool { return r.Reason == "noperm" && r.ExitCode == janitor.ExitNoServer }},
		{[]string{"+object|idletime"}, func(r *janitor.Request) { r.Policy.Families[0].Rule.MinIdle = time.Nanosecond },
			func(r *janitor.Report) bool { return r.Nodes[0].Families[0].Kept.Unknown == 6000 }},
		{[]string{"~online", "+type", "+scard"}, func(r *janitor.Request) { r.Policy.Busy.UsersFrom = "key:online" },
			func(r *janitor.Report) bool { return hasWarning(r, "users_unknown") }},
	} {
		t.Run(strings.Join(extra.rules, " "), func(t *testing.T) {
			for _, rule := range extra.rules {
				if !strings.Contains(more, strings.ReplaceAll(strings.Replace(rule, "~online", "~NAME", 1), "|", `\|`)) {
					t.Errorf("the page does not name %s", rule)
				}
			}
			look := []func(*janitor.Request){command(janitor.DryRun), atLevel(ttlpolicy.Force), noTarget, asDocumentedUser, extra.change}
			grantRules(t, c, rules)
			if r := clean(t, s, look...); !extra.lacks(r) {
				t.Errorf("without: %s, %s, %+v", r.Outcome, r.Reason, r.Warnings)
			}
			grantRules(t, c, append(slices.Clone(rules), extra.rules...))
			if r := clean(t, s, look...); extra.lacks(r) || r.Outcome != janitor.Planned {
				t.Errorf("with: %s, %s, %+v", r.Outcome, r.Reason, r.Warnings)
			}
			if log := aclRefusals(t, c); len(log) > 0 {
				t.Errorf("the server refused: %v", log)
			}
		})
	}
}

func TestTheDocumentedUsersCanFillACapsuleAndRestoreItAndNothingElse(t *testing.T) {
	_, more, _ := strings.Cut(aclPage(t), "\n| `execute --capsule` |")
	more, _, _ = strings.Cut(more, "\n")
	s := redistest.Start(t)
	c := s.Client()
	asUser := func(r *janitor.RestoreRequest) { r.Connection.Username, r.Connection.Password = "janitor", "secret" }
	for _, extra := range []string{"+dump", "+pexpiretime"} {
		if !strings.Contains(more, extra) {
			t.Errorf("the page does not name %s for a capsule", extra)
		}
		plantForACL(t, c)
		size := dbSize(t, c)
		grantRules(t, c, append(documentedRules(t, executeRules), slices.DeleteFunc([]string{"+dump", "+pexpiretime"}, func(r string) bool { return r == extra })...))
		r := clean(t, s, append(taking(filepath.Join(t.TempDir(), "c")), asDocumentedUser)...)
		expect(t, r, janitor.Refused, "noperm", janitor.ExitNoServer)
		if dbSize(t, c) < size {
			t.Errorf("without %s %d keys went", extra, size-dbSize(t, c))
		}
	}
	before := familyKeys(t, c)
	grantRules(t, c, append(documentedRules(t, executeRules), "+dump", "+pexpiretime"))
	file := filepath.Join(t.TempDir(), "c")
	r := clean(t, s, append(taking(file), asDocumentedUser)...)
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	if log := aclRefusals(t, c); len(log) > 0 || r.Totals.Evicted < 6000 {
		t.Errorf("%d went; the server refused: %v", r.Totals.Evicted, log)
	}
	rules := documentedRules(t, "Restore")
	for at, rule := range rules {
		if !strings.HasPrefix(rule, "+") {
			continue
		}
		grantRules(t, c, slices.Delete(slices.Clone(rules), at, at+1))
		putBack(t, s, file, asUser, rehearsed)
		putBack(t, s, file, asUser, func(r *janitor.RestoreRequest) { r.Match = []string{"ml_results:" + md5Of(1)} })
		if rule != "+ping" && len(aclRefusals(t, c)) == 0 {
			t.Errorf("%s is not needed", rule)
		}
	}
	grantRules(t, c, rules)
	expect(t, putBack(t, s, file, asUser), janitor.Restored, janitor.Complete, janitor.ExitDone)
	if log := aclRefusals(t, c); len(log) > 0 {
		t.Errorf("the server refused: %v", log)
	}
	expectSameKeys(t, familyKeys(t, c), before)
	user := redis.NewClient(&redis.Options{Addr: s.Addr, Username: "janitor", Password: "secret", Protocol: 2, DisableIdentity: true, MaxRetries: -1})
	defer user.Close()
	for _, forbidden := range [][]any{{"GET", "ml_results:" + md5Of(1)}, {"DUMP", "ml_results:" + md5Of(1)}, {"UNLINK", "ml_results:" + md5Of(1)}, {"FLUSHALL"},
		{"RESTORE", "user:new", 0, "x"}, {"SET", "ml_results:x", 1}, {"EVALSHA", strings.Repeat("0", 40), 0}} {
		if err := user.Do(t.Context(), forbidden...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%v: %v, want NOPERM", forbidden, err)
		}
	}
}
