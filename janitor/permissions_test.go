package janitor_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/health"
	"redis-janitor/janitor/probe"
	"redis-janitor/janitor/redistest"
)

func permissions(t *testing.T, s *redistest.Server, command janitor.Command) *health.Report {
	t.Helper()
	req := request(s, asDocumentedUser)
	return health.Permissions(t.Context(), health.Request{Version: "test", Policy: req.Policy, Connection: req.Connection}, command,
		health.Env{Now: time.Now, Machine: probe.ThisMachine{Root: fstest.MapFS{}}})
}

// mayAsk has a user ask the server for what he may do.
var mayAsk = []string{"+acl|whoami", "+acl|dryrun"}

func TestTheDocumentedUsersLackNothing(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	for _, user := range []struct {
		heading string
		command janitor.Command
	}{{planRules, janitor.Plan}, {executeRules, janitor.Plan}, {executeRules, janitor.Execute}, {oldRules, janitor.Execute}} {
		grantRules(t, c, append(documentedRules(t, user.heading), mayAsk...))
		if r := permissions(t, s, user.command); r.Outcome != health.OK || len(r.Permissions) < 12 {
			t.Errorf("%s, %s: %s", user.heading, user.command, r.Message)
		}
		if log := aclRefusals(t, c); len(log) > 0 {
			t.Errorf("%s: the server refused %v", user.heading, log)
		}
	}
	// Who may only read lacks what deletes, by name.
	grantRules(t, c, append(documentedRules(t, planRules), mayAsk...))
	r := permissions(t, s, janitor.Execute)
	for _, rule := range []string{"+unlink", "+evalsha", "+script|load", "+hget"} {
		if r.Outcome != health.Critical || !strings.Contains(r.Message, rule) {
			t.Errorf("%s is not named: %s", rule, r.Message)
		}
	}
}

func TestWhatIsMissingIsNamedWithoutSendingIt(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantForACL(t, c)
	rules, said := documentedRules(t, executeRules), withoutRule(t)
	bare := regexp.MustCompile(`[()]`)
	for _, asking := range []bool{true, false} {
		for i, rule := range rules {
			name := bare.ReplaceAllString(rule, "")
			if name == "reset" || name == "on" || strings.HasPrefix(name, ">") || name == "+get" || strings.HasPrefix(rule, "(") {
				continue
			}
			rest := slices.Clone(rules)
			if rest[i] = strings.Replace(rule, name, "", 1); rest[i] == "" {
				rest = slices.Delete(rest, i, i+1)
			}
			if asking {
				rest = append(rest, mayAsk...)
			}
			grantRules(t, c, rest)
			if name == "~redis-janitor*" {
				continue // there is another one in the parentheses
			}
			size := dbSize(t, c)
			r := permissions(t, s, janitor.Execute)
			writing := slices.Contains([]string{"+script|load", "+evalsha", "+unlink", "+hget", "+hset", "+pexpire", "+set", "+del"}, name)
			needed := strings.HasPrefix(said[name], "`noperm`") || strings.HasPrefix(name, "~")
			switch {
			case name == "+info":
				if r.Outcome != health.Unknown || r.Reason != "noperm" {
					t.Errorf("without %s: %s", name, r.Message)
				}
				continue
			case asking && needed && r.Outcome != health.Critical, asking && !needed && r.Outcome != health.Warning,
				!asking && writing && r.Outcome != health.Unknown, !asking && !writing && r.Outcome == health.OK:
				t.Errorf("without %s (asking: %t): %s, %s", name, asking, r.Outcome, r.Message)
			}
			missing, untold, _ := strings.Cut(r.Message, "cannot be told:")
			if where := map[bool]string{true: missing, false: untold}[asking || !writing]; !strings.Contains(where, name) {
				t.Errorf("%s is not named (asking: %t): %s", name, asking, r.Message)
			}
			if now := dbSize(t, c); now != size {
				t.Errorf("%d keys of %d are left", now, size)
			}
		}
	}
}

func TestInAClusterTheDocumentedUserCanDoTheJobAndLacksNothing(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	goes, stays := combotStock(1000)
	fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
	extra := regexp.MustCompile("(?m)^\\| a cluster \\| `([^`]*)` ").FindStringSubmatch(strings.ReplaceAll(aclPage(t), `\|`, "|"))
	if extra == nil {
		t.Fatal("docs/acl.md does not say what a cluster needs more")
	}
	for _, user := range []struct {
		heading string
		command janitor.Command
	}{{planRules, janitor.Plan}, {executeRules, janitor.Execute}} {
		for _, s := range cluster.Masters {
			grantRules(t, s.Client(), slices.Concat(documentedRules(t, user.heading), strings.Fields(extra[1]), mayAsk))
		}
		if r := permissions(t, cluster.Masters[0], user.command); r.Outcome != health.OK {
			t.Errorf("%s: %s", user.heading, r.Message)
		}
		r := clean(t, cluster.Masters[0], asDocumentedUser, command(user.command), func(r *janitor.Request) { r.Level, r.IgnoreBusy = 2, true }, noTarget)
		if r.ExitCode != janitor.ExitDone {
			t.Errorf("%s: exit %d, %s", user.heading, r.ExitCode, r.Message)
		}
		for _, s := range cluster.Masters {
			if log := aclRefusals(t, s.Client()); len(log) > 0 {
				t.Errorf("%s: %s refused %v", user.heading, s.Addr, log)
			}
		}
	}
	expectOnlyTheseGone(t, cluster, goes, stays, 0)
	for _, s := range cluster.Masters {
		grantRules(t, s.Client(), documentedRules(t, executeRules))
	}
	expect(t, clean(t, cluster.Masters[0], asDocumentedUser), janitor.Refused, "noperm", janitor.ExitNoServer)
}
