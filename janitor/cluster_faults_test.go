package janitor_test

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// midway runs a janitor and has something happen once, when one of its walks has come some way. All
// walks stand still meanwhile.
func midway(t *testing.T, s *redistest.Server, scanned int64, happens func(node string), change ...func(*janitor.Request)) *janitor.Report {
	t.Helper()
	env := host(t.TempDir())
	var once sync.Once
	env.Progress = func(p janitor.Progress) {
		if p.Phase == "walk" && p.Scanned > scanned {
			once.Do(func() { happens(p.Node) })
		}
	}
	change = append([]func(*janitor.Request){atLevel(ttlpolicy.Force), noTarget, ignoreBusy}, change...)
	return checked(t, janitor.Run(t.Context(), request(s, change...), env))
}

// expectOnlyTheseGone holds a cluster against what should be left: of what goes at most some are left over.
func expectOnlyTheseGone(t *testing.T, cluster *redistest.Cluster, goes, stays []stock, leftOver int) {
	t.Helper()
	left, _ := keysOfAll(t, cluster)
	for _, s := range stays {
		if gone := s.gone(left); gone != 0 {
			t.Errorf("%d keys such as %s went", gone, s[0].key)
		}
	}
	for _, s := range goes {
		if gone := s.gone(left); len(s)-gone > leftOver {
			t.Errorf("only %d of %d keys such as %s went", gone, len(s), s[0].key)
		}
	}
}

// at finds a server by its address.
func at(t *testing.T, servers []*redistest.Server, addr string) (int, *redistest.Server) {
	t.Helper()
	i := slices.IndexFunc(servers, func(s *redistest.Server) bool { return s.Addr == addr })
	if i < 0 {
		t.Fatalf("there is no server %s", addr)
	}
	return i, servers[i]
}

func ask(t *testing.T, s *redistest.Server, words ...any) string {
	t.Helper()
	answer, err := s.Client().Do(context.Background(), words...).Text()
	if err != nil {
		t.Errorf("%v on %s: %v", words, s.Addr, err)
	}
	return answer
}

// awaitDown waits until each of some servers has heard that its cluster is down.
func awaitDown(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		c := s.Client()
		awaitTrue(t, s.Addr+" to find its cluster down", func() bool {
			return strings.Contains(c.ClusterInfo(t.Context()).Val(), "cluster_state:fail")
		})
	}
}

// moveSlots hands a master's first slots, with their keys, to another one, and leaves the last of them half-way.
func moveSlots(t *testing.T, from, to *redistest.Server, slots []int) {
	t.Helper()
	fromID, toID := ask(t, from, "CLUSTER", "MYID"), ask(t, to, "CLUSTER", "MYID")
	source, target := from.Client(), to.Client()
	ctx := context.Background()
	send := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, slot := range slots {
		send(target.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID).Err())
		send(source.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID).Err())
		keys, err := source.ClusterGetKeysInSlot(ctx, slot, 10_000).Result()
		send(err)
		last := i == len(slots)-1
		if last && len(keys) < 2 {
			t.Fatalf("slot %d has %d keys, too few to stop half-way", slot, len(keys))
		}
		if last {
			keys = keys[:len(keys)/2]
		}
		if len(keys) > 0 {
			command := []any{"MIGRATE", "127.0.0.1", to.Port, "", 0, 10_000, "KEYS"}
			for _, key := range keys {
				command = append(command, key)
			}
			send(source.Do(ctx, command...).Err())
		}
		if !last {
			send(target.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID).Err())
			send(source.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID).Err())
		}
	}
}

func TestAReshardDuringTheWalkDeletesNothingWrongAndIsSaid(t *testing.T) {
	for _, cmd := range []janitor.Command{janitor.Execute, janitor.DryRun} {
		t.Run(string(cmd), func(t *testing.T) {
			cluster := redistest.StartCluster(t, 3, 0)
			goes, stays := combotStock(6000)
			fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
			all, _ := keysOfAll(t, cluster)
			stuck := 0
			r := midway(t, cluster.Masters[0], 500, func(node string) {
				i, from := at(t, cluster.Masters, node)
				first := i * 16384 / 3
				var slots []int
				for slot := first; slot < first+1200; slot++ {
					slots = append(slots, slot)
				}
				// The last one is left half-way: a slot of several keys.
				for slot := first + 1200; ; slot++ {
					if n, err := from.Client().ClusterCountKeysInSlot(context.Background(), slot).Result(); err != nil || n > 3 {
						slots, stuck = append(slots, slot), int(n)
						break
					}
				}
				moveSlots(t, from, cluster.Masters[(i+1)%3], slots)
			}, command(cmd))
			expectWarning(t, r, "possibly_incomplete")
			moved := int64(0)
			for _, n := range r.Nodes {
				for _, f := range n.Families {
					moved += f.Kept.Moved
				}
			}
			if moved == 0 {
				t.Error("no key was kept for having moved")
			}
			if cmd == janitor.DryRun {
				if left, _ := keysOfAll(t, cluster); !maps.Equal(left, all) {
					t.Error("the keys are others than before")
				}
				return
			}
			expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
			// What lies in the slot that is neither here nor there may be left, and nothing else.
			expectOnlyTheseGone(t, cluster, goes, stays, stuck)
		})
	}
}

func TestAFailoverDuringTheWalkIsFollowed(t *testing.T) {
	for name, fail := range map[string]func(master, replica *redistest.Server){
		"ordered":  func(_, replica *redistest.Server) { ask(t, replica, "CLUSTER", "FAILOVER") },
		"a sudden": func(master, _ *redistest.Server) { master.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			cluster := redistest.StartCluster(t, 3, 1)
			goes, stays := combotStock(6000)
			fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
			var heir *redistest.Server
			place := 0
			r := midway(t, cluster.Masters[0], 500, func(node string) {
				i, master := at(t, cluster.Masters, node)
				place, heir = i, cluster.Replicas[i]
				cluster.FailSoon()
				fail(master, heir)
				cluster.Masters[i], cluster.Replicas[i] = heir, master
				if name == "ordered" {
					c := heir.Client()
					awaitTrue(t, "the replica to be promoted", func() bool {
						return strings.Contains(c.Info(context.Background(), "replication").Val(), "role:master")
					})
				}
			})
			expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
			expectWarning(t, r, "possibly_incomplete")
			expectOnlyTheseGone(t, cluster, goes, stays, 0)
			if r.Nodes[place].Addr != heir.Addr || r.Nodes[place].Role != "master" {
				t.Errorf("the row of the failed-over node is %s, a %s; its heir is %s", r.Nodes[place].Addr, r.Nodes[place].Role, heir.Addr)
			}
		})
	}
}

func TestAFailoverAndBackWithinOneRunAreFollowed(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 1)
	goes, stays := combotStock(6000)
	fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
	promote := func(replica, master *redistest.Server) {
		awaitTrue(t, "the replica to follow its master", func() bool {
			return strings.Contains(replica.Client().Info(context.Background(), "replication").Val(), "master_link_status:up")
		})
		ask(t, replica, "CLUSTER", "FAILOVER", "TAKEOVER") // twice for one master, the others would vote for after a while only
		awaitTrue(t, "the replica to be promoted", func() bool { return !isReplica(replica) && isReplica(master) })
	}
	env := host(t.TempDir())
	var one sync.Mutex
	place, moves := -1, 0
	env.Progress = func(p janitor.Progress) {
		one.Lock()
		defer one.Unlock()
		if p.Phase != "walk" || p.Scanned < 500 {
			return
		}
		switch {
		case moves == 0:
			place, _ = at(t, cluster.Masters, p.Node)
			promote(cluster.Replicas[place], cluster.Masters[place])
			moves++
		case moves == 1 && p.Node == cluster.Replicas[place].Addr:
			promote(cluster.Masters[place], cluster.Replicas[place])
			moves++
		}
	}
	r := checked(t, janitor.Run(t.Context(), request(cluster.Masters[0], atLevel(ttlpolicy.Force), noTarget, ignoreBusy), env))
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	expectWarning(t, r, "possibly_incomplete")
	expectOnlyTheseGone(t, cluster, goes, stays, 0)
	if moves != 2 || r.Nodes[place].Addr != cluster.Masters[place].Addr {
		t.Errorf("after %d failovers the row is %s, and the master %s", moves, r.Nodes[place].Addr, cluster.Masters[place].Addr)
	}
}

// Until a replica has taken a lost master's place, none of the others serves a key either.
func TestWhatAClusterRefusesWhileAMasterIsReplacedIsDoneAfterwards(t *testing.T) {
	for _, cmd := range []janitor.Command{janitor.Execute, janitor.DryRun} {
		for _, holdsLease := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the lease's master: %t", cmd, holdsLease), func(t *testing.T) {
				cluster := redistest.StartCluster(t, 3, 1)
				goes, stays := combotStock(6000)
				fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
				all, _ := keysOfAll(t, cluster)
				refused := 0
				r := midway(t, cluster.Masters[0], 500, func(string) {
					lost := slices.IndexFunc(cluster.Masters, func(s *redistest.Server) bool {
						return (s.Client().Exists(t.Context(), leaseKey).Err() == nil) == holdsLease
					})
					cluster.CatchUp()
					// The replica stands for election when the test says so: the cluster is down until then.
					ask(t, cluster.Replicas[lost], "CONFIG", "SET", "cluster-replica-no-failover", "yes")
					cluster.FailSoon()
					cluster.Masters[lost].Kill()
					awaitDown(t, slices.Delete(slices.Clone(cluster.Masters), lost, lost+1)...)
					cluster.Masters[lost], cluster.Replicas[lost] = cluster.Replicas[lost], cluster.Masters[lost]
					for i, s := range cluster.Masters {
						if err := s.Client().Exists(t.Context(), leaseKey).Err(); i != lost && err != nil && strings.HasPrefix(err.Error(), "CLUSTERDOWN") {
							refused++
						}
					}
					ask(t, cluster.Masters[lost], "CONFIG", "SET", "cluster-replica-no-failover", "no")
				}, command(cmd))
				if refused != 2 {
					t.Errorf("%d servers refused", refused)
				}
				if cmd == janitor.DryRun {
					expect(t, r, janitor.Planned, janitor.Exhausted, janitor.ExitDone)
					if left, _ := keysOfAll(t, cluster); !maps.Equal(left, all) {
						t.Error("the keys are others than before")
					}
					return
				}
				expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
				expectOnlyTheseGone(t, cluster, goes, stays, 0)
			})
		}
	}
}

func TestAMasterThatStaysLostIsNamedAndTheOthersAreDoneWhereTheyServe(t *testing.T) {
	for _, it := range []struct {
		fullCoverage string
		outcome      janitor.Outcome
		reason       janitor.Reason // also the others'
		exit         int
	}{
		{"no", janitor.Incomplete, janitor.NodeDown, janitor.ExitIncomplete},
		{"yes", janitor.Failed, "clusterdown", janitor.ExitFailed},
	} {
		t.Run(it.fullCoverage, func(t *testing.T) {
			t.Parallel() // it waits for a minute
			cluster := redistest.StartCluster(t, 3, 0, "--cluster-require-full-coverage", it.fullCoverage)
			goes, stays := combotStock(6000)
			fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
			lost := cluster.Masters[1]
			r := midway(t, cluster.Masters[0], 500, func(string) {
				cluster.FailSoon()
				lost.Kill()
				if it.fullCoverage == "yes" {
					awaitDown(t, cluster.Masters[0], cluster.Masters[2])
				}
			})
			expect(t, r, it.outcome, it.reason, it.exit)
			if !strings.Contains(r.Message, lost.Addr+" is down") {
				t.Errorf("%s does not name %s", r.Message, lost.Addr)
			}
			evicted := int64(0)
			for _, n := range r.Nodes {
				want := it.reason
				if n.Addr == lost.Addr {
					want = janitor.NodeDown
				} else if it.fullCoverage == "no" {
					want = janitor.Exhausted
				}
				if n.Reason != want {
					t.Errorf("%s ended with %s, %s, want %s", n.Addr, n.Outcome, n.Reason, want)
				}
				for _, f := range n.Families {
					evicted += f.Evicted
				}
			}
			if evicted == 0 || evicted != r.Totals.Evicted || r.Totals.Failed != 0 {
				t.Errorf("its servers evicted %d keys; the report says %+v", evicted, r.Totals)
			}
		})
	}
}

func TestWithAMasterDownTheOthersAreDoneAndItIsNamed(t *testing.T) {
	for _, holdsLease := range []bool{false, true} {
		t.Run("with the lease's slot: "+strconv.FormatBool(holdsLease), func(t *testing.T) {
			cluster := redistest.StartCluster(t, 3, 0, "--cluster-require-full-coverage", "no")
			goes, stays := combotStock(2000)
			fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
			down := slices.IndexFunc(cluster.Masters, func(s *redistest.Server) bool {
				return (s.Client().Exists(t.Context(), leaseKey).Err() == nil) == holdsLease
			})
			dead := cluster.Masters[down]
			rest := &redistest.Cluster{Masters: slices.Delete(slices.Clone(cluster.Masters), down, down+1)}
			_, had := keysOfAll(t, cluster)
			dead.Kill()
			seeds := func(r *janitor.Request) { r.Connection.URLs = []string{dead.URL(), rest.Masters[0].URL()} }
			run := func(change ...func(*janitor.Request)) *janitor.Report {
				t.Helper()
				r := clean(t, dead, append([]func(*janitor.Request){atLevel(ttlpolicy.Force), noTarget, ignoreBusy, seeds}, change...)...)
				if len(r.Nodes) != 3 || !strings.Contains(r.Message, dead.Addr) {
					t.Errorf("%d rows, and it says %s", len(r.Nodes), r.Message)
				}
				for _, n := range r.Nodes {
					if n.Addr == dead.Addr && n.Reason != janitor.NodeDown {
						t.Errorf("the dead node ended with %s, %s", n.Outcome, n.Reason)
					}
				}
				expectWarning(t, r, "node_down")
				return r
			}
			for _, cmd := range []janitor.Command{janitor.Plan, janitor.DryRun} {
				if r := run(command(cmd)); r.ExitCode != janitor.ExitDone || r.Outcome != janitor.Planned {
					t.Errorf("%s: %s, %s, exit %d", cmd, r.Outcome, r.Reason, r.ExitCode)
				}
			}
			r := run()
			expect(t, r, janitor.Incomplete, janitor.NodeDown, janitor.ExitIncomplete)
			if hasWarning(r, "no_lease") != holdsLease || hasWarning(r, "no_cooldown") {
				t.Errorf("warnings %+v", r.Warnings)
			}
			// The others keep their cooldown, whoever had the lease, and hide nothing of the one that is down.
			again := run()
			expect(t, again, janitor.Incomplete, janitor.NodeDown, janitor.ExitIncomplete)
			for _, n := range again.Nodes {
				if n.Addr != dead.Addr && (n.Outcome != janitor.Skipped || n.Reason != janitor.Cooldown) {
					t.Errorf("%s, which was just cleaned, ended with %s, %s", n.Addr, n.Outcome, n.Reason)
				}
			}
			left, _ := keysOfAll(t, rest)
			maps.Copy(left, had[down])
			for _, s := range stays {
				if gone := s.gone(left); gone != 0 {
					t.Errorf("%d keys such as %s went", gone, s[0].key)
				}
			}
			for _, s := range goes {
				if slices.ContainsFunc(s, func(e entry) bool { return left[e.key] && !had[down][e.key] }) {
					t.Errorf("keys such as %s are left on nodes that are up", s[0].key)
				}
			}
			for _, s := range rest.Masters {
				s.Kill()
			}
			expect(t, clean(t, dead, seeds), janitor.Failed, "unreachable", janitor.ExitNoServer)
		})
	}
}

func TestAMasterThatIsLostBeforeTheWalkIsNamedAndTheOthersAreDone(t *testing.T) {
	for name, change := range map[string]func(*janitor.Request){
		"evicting":       func(*janitor.Request) {},
		"with a capsule": into(filepath.Join(t.TempDir(), "capsule")),
	} {
		t.Run(name, func(t *testing.T) {
			cluster := redistest.StartCluster(t, 3, 0, "--cluster-require-full-coverage", "no")
			goes, stays := combotStock(1000)
			fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
			lost := cluster.Masters[1]
			rest := &redistest.Cluster{Masters: []*redistest.Server{cluster.Masters[0], cluster.Masters[2]}}
			_, had := keysOfAll(t, rest)
			env := host(t.TempDir())
			env.Confirm = func(context.Context, *janitor.Report) (bool, error) {
				lost.Kill()
				return true, nil
			}
			r := checked(t, janitor.Run(t.Context(), request(cluster.Masters[0], atLevel(ttlpolicy.Force), noTarget, ignoreBusy, change,
				func(r *janitor.Request) { r.Confirmed = false }), env))
			expect(t, r, janitor.Incomplete, janitor.NodeDown, janitor.ExitIncomplete)
			_, left := keysOfAll(t, rest)
			for i, gone := range gonePerNode(goes, had, left) {
				if want := gonePerNode(goes, had, []map[string]bool{{}, {}})[i]; gone != want || want == 0 {
					t.Errorf("%d of %d keys went on %s", gone, want, rest.Masters[i].Addr)
				}
			}
			for i, gone := range gonePerNode(stays, had, left) {
				if gone > 0 {
					t.Errorf("%d keys went on %s that were to stay", gone, rest.Masters[i].Addr)
				}
			}
		})
	}
}

func TestOwnKeysInASlotThatIsBeingMovedStandInNobodysWay(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	goes, stays := combotStock(1000)
	fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
	for _, key := range []string{leaseKey, "redis-janitor:cooldown:{0}"} { // the latter of the master that has this slot
		owner := slices.IndexFunc(cluster.Masters, func(s *redistest.Server) bool { return s.Client().Exists(t.Context(), key).Err() == nil })
		from, to := cluster.Masters[owner], cluster.Masters[(owner+1)%3]
		slot := from.Client().ClusterKeySlot(t.Context(), key).Val()
		ask(t, to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ask(t, from, "CLUSTER", "MYID"))
		ask(t, from, "CLUSTER", "SETSLOT", slot, "MIGRATING", ask(t, to, "CLUSTER", "MYID"))
	}
	r := clean(t, cluster.Masters[0], atLevel(ttlpolicy.Force), noTarget, ignoreBusy)
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	expectWarning(t, r, "no_lease")
	expectWarning(t, r, "no_cooldown")
	expectOnlyTheseGone(t, cluster, goes, stays, 0)
}

func TestAClusterThatRefusesToServeIsToldApart(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	goes, stays := combotStock(500)
	fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
	cluster.FailSoon()
	cluster.Masters[2].Kill()
	awaitDown(t, cluster.Masters[:2]...)
	r := clean(t, cluster.Masters[0], atLevel(ttlpolicy.Force), noTarget)
	if r.ExitCode != janitor.ExitNoServer || r.Reason != "clusterdown" {
		t.Errorf("%s, %s, exit %d: %s", r.Outcome, r.Reason, r.ExitCode, r.Message)
	}
}

func TestAClusterHasOneLeaseWhicheverSeedAJanitorCameBy(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	goes, stays := combotStock(3000)
	fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
	reports := make(chan *janitor.Report, 5)
	r := midway(t, cluster.Masters[0], 200, func(string) {
		for i := range 5 {
			reports <- clean(t, cluster.Masters[i%3], atLevel(ttlpolicy.Critical), noTarget, ignoreCooldown)
		}
	})
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	for range 5 {
		expect(t, <-reports, janitor.Skipped, janitor.LeaseHeld, janitor.ExitDone)
	}
	expectOnlyTheseGone(t, cluster, goes, stays, 0)
}

func TestAsManyNodesOfAClusterAreWorkedOnAtTheSameTimeAsAreAskedFor(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	goes, stays := combotStock(500)
	fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
	for _, cmd := range []janitor.Command{janitor.DryRun, janitor.Execute} {
		for _, atOnce := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s, %d at once", cmd, atOnce), func(t *testing.T) {
				env := host(t.TempDir())
				var mu sync.Mutex
				met := map[string]bool{}
				together := make(chan struct{})
				meet := sync.OnceFunc(func() { close(together) })
				// The first ones wait in their walks for one another: were they fewer, none would get on.
				env.Progress = func(p janitor.Progress) {
					if p.Phase != "walk" {
						return
					}
					mu.Lock()
					if met[p.Node] = true; len(met) == atOnce {
						meet()
					}
					mu.Unlock()
					select {
					case <-together:
					case <-t.Context().Done():
					case <-time.After(time.Minute):
						t.Errorf("%s waited in vain for %d others", p.Node, atOnce-1)
						meet()
					}
				}
				r := checked(t, janitor.Run(t.Context(), request(cluster.Masters[0], command(cmd), atLevel(ttlpolicy.Force), noTarget, ignoreBusy, ignoreCooldown,
					func(r *janitor.Request) { r.NodesAtOnce = atOnce }), env))
				if r.ExitCode != janitor.ExitDone || len(met) != 3 {
					t.Errorf("%s, %s, exit %d: %s; %d nodes were walked", r.Outcome, r.Reason, r.ExitCode, r.Message, len(met))
				}
			})
		}
	}
}

func TestLimitsHoldForAClusterAsAWhole(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	goes, stays := combotStock(3000)
	fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
	for _, limit := range []int64{1, 100, 1234} {
		r := clean(t, cluster.Masters[0], atLevel(ttlpolicy.Force), noTarget, ignoreBusy, ignoreCooldown, func(r *janitor.Request) { r.MaxKeys = limit })
		expect(t, r, janitor.Incomplete, janitor.MaxKeys, janitor.ExitIncomplete)
		if r.Totals.Evicted != limit {
			t.Errorf("%d keys went, with --max-keys %d", r.Totals.Evicted, limit)
		}
	}
	expectOnlyTheseGone(t, cluster, nil, stays, 0)
}

func TestUsersAreCountedOverAllNodes(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	fillCluster(t, cluster, evenly("combot_cache:1:django.contrib.sessions.cache", 21, 27*time.Minute, 29*time.Minute, bytesEach(10)),
		evenly("ml_results:", 300, time.Minute, time.Hour, bytesEach(10)))
	r := clean(t, cluster.Masters[2], atLevel(ttlpolicy.Force), noTarget)
	expect(t, r, janitor.Skipped, janitor.Busy, janitor.ExitDone)
	if r.Users.Active != 21 {
		t.Errorf("%d users were counted", r.Users.Active)
	}
	do(t, mastersClient(t, cluster, "online"), []any{"SET", "online", "42"})
	r = clean(t, cluster.Masters[0], atLevel(ttlpolicy.Force), noTarget, func(r *janitor.Request) { r.Policy.Busy.UsersFrom = "key:online" })
	expect(t, r, janitor.Skipped, janitor.Busy, janitor.ExitDone)
	if r.Users.Active != 42 {
		t.Errorf("%d users were read", r.Users.Active)
	}
}

func TestOnManySmallNodesConnectionsAndMemoryStayBounded(t *testing.T) {
	const nodes, workers = 14, 2
	cluster := redistest.StartCluster(t, nodes, 0)
	goes, stays := combotStock(1500)
	fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
	most, once := 0, sync.Mutex{}
	var clients []*redis.Client
	for _, s := range cluster.Masters {
		clients = append(clients, s.Client())
	}
	count := func() {
		once.Lock()
		defer once.Unlock()
		total := 0
		for _, c := range clients {
			list, err := c.ClientList(context.Background()).Result()
			if err != nil {
				t.Error(err)
			}
			total += strings.Count(list, "name=redis-janitor ")
		}
		most = max(most, total)
	}
	env := host(t.TempDir())
	var heaps []float64 // as each node began its walk
	met := map[string]bool{}
	weigh := func(node string) {
		once.Lock()
		defer once.Unlock()
		if !met[node] {
			met[node] = true
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heaps = append(heaps, float64(m.HeapAlloc))
		}
	}
	env.Progress = func(p janitor.Progress) {
		if p.Phase == "walk" {
			count()
			weigh(p.Node)
		}
	}
	r := checked(t, janitor.Run(t.Context(), request(cluster.Masters[0], atLevel(ttlpolicy.Force), noTarget, ignoreBusy), env))
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	expectOnlyTheseGone(t, cluster, goes, stays, 0)
	// With four at work at a time the last ones find as much in use as the first ones did.
	if len(heaps) != nodes || slices.Max(heaps[nodes-4:]) > 1.25*slices.Max(heaps[:6]) {
		t.Errorf("memory in use as each node began: %.0f", heaps)
	}
	// A server counts those of a node that was left, too, until it notices.
	if limit := nodes + (4+1)*(workers+2) + 2; most > limit || most == 0 {
		t.Errorf("there were %d connections at once, want at most %d", most, limit)
	}
}

func TestInAClusterAJanitorWhoseLeaseAnotherOneHasStops(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	goes, stays := combotStock(6000)
	fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
	keeper := mastersClient(t, cluster, leaseKey)
	r := midway(t, cluster.Masters[0], 50, func(string) {
		for _, command := range [][]any{{"DEL", leaseKey}, {"HSET", leaseKey, "token", "another's", "holder", "h", "since", "s"}, {"PEXPIRE", leaseKey, 600_000}} {
			if err := keeper.Do(context.Background(), command...).Err(); err != nil {
				t.Error(err)
			}
		}
	}, func(r *janitor.Request) { r.MaxRate = 400 }) // so slow that it asks for its lease before it is done
	expect(t, r, janitor.Incomplete, janitor.LeaseLost, janitor.ExitIncomplete)
	if token := keeper.HGet(t.Context(), leaseKey, "token").Val(); token != "another's" {
		t.Errorf("the lease is %q's", token)
	}
	expectOnlyTheseGone(t, cluster, nil, stays, 0)
	if left, _ := keysOfAll(t, cluster); goes[0].gone(left) == len(goes[0]) {
		t.Error("it went on to the end")
	}
}
