package janitor_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// watched has a janitor find its primary by sentinels. The URL's host is nobody's.
func watched(sentinels []*redistest.Server) func(*janitor.Request) {
	return func(r *janitor.Request) {
		r.Connection.URLs, r.Connection.MasterName = []string{"redis://127.0.0.1:1/0"}, "combot"
		for _, s := range sentinels {
			r.Connection.Sentinels = append(r.Connection.Sentinels, s.Addr)
		}
	}
}

// isReplica is false also where a failover has just cut the connection.
func isReplica(s *redistest.Server) bool {
	info, err := s.Client().Info(context.Background(), "replication").Result()
	return err == nil && strings.Contains(info, "role:slave")
}

func fillServer(t *testing.T, s *redistest.Server, n int) (goes, stays []stock) {
	t.Helper()
	goes, stays = combotStock(n)
	fill(t, s, writeString, append(slices.Clone(goes), stays...)...)
	return goes, stays
}

func TestSentinelsLeadToThePrimary(t *testing.T) {
	master := redistest.Start(t)
	replica := redistest.StartReplica(t, master)
	sentinels := redistest.StartSentinel(t, master, "combot", 3)
	goes, stays := fillServer(t, master, 1000)
	sentinels[0].Kill() // another one answers
	for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun, janitor.Execute} {
		r := clean(t, master, watched(sentinels), command(cmd), atLevel(ttlpolicy.Force), noTarget, ignoreBusy)
		if r.ExitCode != janitor.ExitDone || len(r.Nodes) != 1 || r.Nodes[0].Addr != master.Addr {
			t.Errorf("%s: %s, exit %d: %s", cmd, r.Reason, r.ExitCode, r.Message)
		}
	}
	left := keysOf(t, master.Client())
	for i, s := range slices.Concat(goes, stays) {
		if gone := s.gone(left); (i < len(goes)) != (gone == len(s)) {
			t.Errorf("%d of %d keys such as %s went", gone, len(s), s[0].key)
		}
	}
	// A name that nobody watches, sentinels that aren't there, and servers that are none.
	other := func(r *janitor.Request) { r.Connection.MasterName = "other" }
	expect(t, clean(t, master, watched(sentinels[1:]), other), janitor.Refused, "no_primary", janitor.ExitNoServer)
	expect(t, clean(t, master, watched(sentinels[:1])), janitor.Failed, "unreachable", janitor.ExitNoServer)
	expect(t, clean(t, master, watched([]*redistest.Server{replica})), janitor.Refused, "nocommand", janitor.ExitNoServer)
}

func TestAFailoverBySentinelsIsFollowedAndNoReplicaCleaned(t *testing.T) {
	for name, fail := range map[string]func(sentinels []*redistest.Server, master *redistest.Server){
		"ordered": func(sentinels []*redistest.Server, _ *redistest.Server) {
			ask(t, sentinels[0], "SENTINEL", "FAILOVER", "combot")
		},
		"a sudden": func(sentinels []*redistest.Server, master *redistest.Server) {
			redistest.FailSoon(t, sentinels, "combot")
			master.Kill()
		},
	} {
		t.Run(name, func(t *testing.T) {
			master := redistest.Start(t, writable...)
			replica := redistest.StartReplica(t, master, writable...)
			sentinels := redistest.StartSentinel(t, master, "combot", 3)
			goes, stays := fillServer(t, master, 6000)
			var demoted *redistest.Monitor
			r := midway(t, master, 500, func(string) {
				fail(sentinels, master)
				if name == "ordered" {
					awaitTrue(t, "the master to be demoted", func() bool { return isReplica(master) })
					demoted = master.Monitor(t)
				}
			}, watched(sentinels))
			expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
			expectWarning(t, r, "possibly_incomplete")
			if n := r.Nodes[0]; n.Addr != replica.Addr || n.Role != "master" {
				t.Errorf("it ended at %s, a %s; the new primary is %s", n.Addr, n.Role, replica.Addr)
			}
			left := keysOf(t, replica.Client())
			for i, s := range slices.Concat(goes, stays) {
				if gone := s.gone(left); (i < len(goes)) != (gone == len(s)) {
					t.Errorf("%d of %d keys such as %s went", gone, len(s), s[0].key)
				}
			}
			if demoted == nil {
				return
			}
			for _, call := range demoted.Calls() {
				if call.Lua && (call.Name == "UNLINK" || call.Name == "HSET" || call.Name == "SET") {
					t.Fatalf("a script on what was a replica by then sent %s %.80q", call.Name, call.Args)
				}
			}
		})
	}
}

func TestSentinelsMayHaveAPasswordOfTheirOwn(t *testing.T) {
	master := redistest.Start(t, "--requirepass", "theirs")
	sentinels := redistest.StartSentinel(t, master, "combot", 1)
	do(t, sentinels[0].Client(), []any{"ACL", "SETUSER", "default", "resetpass", ">s3cret"})
	r := clean(t, master, watched(sentinels))
	expect(t, r, janitor.Refused, "auth", janitor.ExitNoServer)
	if !strings.Contains(r.Message, sentinels[0].Addr) {
		t.Errorf("it does not say who refused: %s", r.Message)
	}
	r = clean(t, master, watched(sentinels), func(r *janitor.Request) { r.Connection.SentinelPassword = "s3cret" })
	expect(t, r, janitor.Nothing, janitor.BelowThreshold, janitor.ExitDone)
	r = clean(t, master, watched(sentinels), func(r *janitor.Request) { r.Connection.SentinelPassword = "wr0ng" })
	if r.Reason != "auth" || strings.Contains(r.Message+r.Hint, "wr0ng") {
		t.Errorf("%s: %s", r.Reason, r.Message)
	}
}
