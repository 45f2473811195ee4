package janitor_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// refusing answers commands as a service does that has taken them away: "SCRIPT LOAD" is one subcommand.
func refusing(names ...string) func(*redistest.Server, []string) (string, bool) {
	return func(_ *redistest.Server, cmd []string) (string, bool) {
		called := strings.ToUpper(cmd[0])
		if len(cmd) > 1 && !slices.Contains(names, called) {
			called += " " + strings.ToUpper(cmd[1])
		}
		return fmt.Sprintf("-ERR unknown command '%s', with args beginning with: ", cmd[0]), slices.Contains(names, called)
	}
}

// infoWithout answers INFO without some of its fields, and with others in the place of their own.
func infoWithout(fields ...string) func(*redistest.Server, []string) (string, bool) {
	return func(s *redistest.Server, cmd []string) (string, bool) {
		if !strings.EqualFold(cmd[0], "INFO") {
			return "", false
		}
		info, err := s.Client().Info(context.Background(), cmd[1:]...).Result()
		if err != nil {
			return "-ERR " + err.Error(), true
		}
		var left strings.Builder
		for line := range strings.Lines(info) {
			name, _, _ := strings.Cut(line, ":")
			if !slices.Contains(fields, name) {
				left.WriteString(line)
			}
		}
		for _, field := range fields {
			if strings.Contains(field, ":") {
				left.WriteString(field + "\r\n")
			}
		}
		return fmt.Sprintf("$%d\r\n%s\r\n", left.Len(), left.String()), true
	}
}

// oneEndpoint is a service that speaks the cluster's protocol behind a single address.
func oneEndpoint(slots string) func(*redistest.Server, []string) (string, bool) {
	info := infoWithout("cluster_enabled", "redis_mode", "cluster_enabled:1")
	return func(s *redistest.Server, cmd []string) (string, bool) {
		if strings.EqualFold(cmd[0], "CLUSTER") {
			return slots, true
		}
		return info(s, cmd)
	}
}

// services are what managed services do, one by one. A reason means that execute ends with it, before
// anything is deleted; none, that the job is done.
var services = []struct {
	name    string
	answer  func(*redistest.Server, []string) (string, bool)
	change  func(*janitor.Request)
	reason  janitor.Reason
	exit    int
	plans   bool   // plan works all the same
	warning string // that there must be
}{
	{name: "CONFIG, DEBUG, KEYS, MONITOR, ACL and COMMAND are refused", answer: refusing("CONFIG", "DEBUG", "KEYS", "MONITOR", "ACL", "COMMAND"), plans: true},
	{name: "no CLIENT", answer: refusing("CLIENT", "CLIENT SETNAME"), plans: true},
	{name: "no HELLO", answer: refusing("HELLO"), plans: true},
	{name: "no RANDOMKEY", answer: refusing("RANDOMKEY"), plans: true, warning: "sample_not_random"},
	{name: "no OBJECT", answer: refusing("OBJECT", "OBJECT ENCODING", "OBJECT IDLETIME"), plans: true},
	{name: "no MEMORY USAGE", answer: refusing("MEMORY USAGE"), reason: "nocommand", exit: janitor.ExitNoServer},
	{name: "no DBSIZE", answer: refusing("DBSIZE"), reason: "nocommand", exit: janitor.ExitNoServer},
	{name: "no SCAN", answer: refusing("SCAN"), reason: "nocommand", exit: janitor.ExitNoServer},
	{name: "no SCRIPT LOAD", answer: refusing("SCRIPT LOAD"), reason: "noeval", exit: janitor.ExitNoServer, plans: true},
	{name: "no EVALSHA", answer: refusing("EVALSHA"), reason: "noeval", exit: janitor.ExitNoServer, plans: true},
	{name: "no INFO", answer: refusing("INFO"), reason: "nocommand", exit: janitor.ExitNoServer},
	{name: "INFO without used_memory", answer: infoWithout("used_memory"), reason: "memory", exit: janitor.ExitNoServer},
	{name: "INFO without what isn't counted", answer: infoWithout("mem_not_counted_for_evict", "used_memory_rss", "mem_fragmentation_ratio", "lazyfree_pending_objects", "total_system_memory"), plans: true},
	{name: "INFO without run_id, role and version", answer: infoWithout("run_id", "role", "redis_version"), plans: true, warning: "info_incomplete"},
	{name: "INFO without maxmemory", answer: infoWithout("maxmemory", "maxmemory_policy"), plans: true, warning: "info_incomplete"},
	{name: "hidden maxmemory that is to be the limit", answer: infoWithout("maxmemory"), reason: janitor.BadPolicy, exit: janitor.ExitPolicy,
		change: func(r *janitor.Request) { r.Policy.Memory.Limit = janitor.Limit{From: "maxmemory"} }},
	{name: "a cluster's protocol behind one endpoint", answer: oneEndpoint("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$-1\r\n:0\r\n$1\r\na"), plans: true},
	{name: "several servers behind one endpoint", answer: oneEndpoint("*2\r\n*3\r\n:0\r\n:99\r\n*3\r\n$-1\r\n:0\r\n$1\r\na\r\n*3\r\n:100\r\n:16383\r\n*3\r\n$-1\r\n:0\r\n$1\r\nb"),
		reason: "not_cluster", exit: janitor.ExitNoServer},
	{name: "a cluster whose map is kept secret", answer: oneEndpoint("-ERR unknown command 'CLUSTER', with args beginning with: "), reason: "nocommand", exit: janitor.ExitNoServer},
}

func TestWhatAManagedServiceRefusesIsDoneWithoutOrToldAndNeverGuessed(t *testing.T) {
	for _, service := range services {
		t.Run(service.name, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			kept := keepers(t, c)
			plant(t, c, func(p *planter) {
				for i := range 2500 { // more than a small sample draws
					p.do("SETEX", "ml_results:"+md5Of(i), 3000, "a result")
				}
			})
			size := dbSize(t, c)
			p := redistest.Proxy(t, s.Addr)
			p.Answer(func(cmd []string) (string, bool) { return service.answer(s, cmd) })
			change := []func(*janitor.Request){atLevel(ttlpolicy.Force), ignoreBusy, noTarget, through(p), func(r *janitor.Request) { r.Connection.CommandTimeout = 5 * time.Second }}
			if service.change != nil {
				change = append(change, service.change)
			}
			planned := clean(t, s, append(change, command(janitor.Plan))...)
			if works := planned.ExitCode == janitor.ExitDone; works != service.plans || !works && (planned.Hint == "" && service.exit != janitor.ExitPolicy) {
				t.Errorf("plan: %s, %s, exit %d: %s (%s)", planned.Outcome, planned.Reason, planned.ExitCode, planned.Message, planned.Hint)
			}
			r := clean(t, s, change...)
			expectKept(t, c, kept)
			if service.reason == "" {
				expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
				if service.warning != "" {
					expectWarning(t, r, service.warning)
				}
				if r.Totals.Evicted != 2500 {
					t.Errorf("%d keys went", r.Totals.Evicted)
				}
				return
			}
			if r.Reason != service.reason || r.ExitCode != service.exit || !strings.Contains(r.Message, p.Addr) {
				t.Errorf("%s, %s, exit %d: %s", r.Outcome, r.Reason, r.ExitCode, r.Message)
			}
			do(t, c, []any{"UNLINK", leaseKey, cooldownKey})
			if now := dbSize(t, c); now != size {
				t.Errorf("%d keys are left of %d", now, size)
			}
		})
	}
}
