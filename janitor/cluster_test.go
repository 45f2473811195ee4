package janitor_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// fillCluster writes entries, each to the server that has its slot.
func fillCluster(t *testing.T, c *redistest.Cluster, stocks ...stock) {
	t.Helper()
	client := c.Client()
	for some := range slices.Chunk(slices.Concat(stocks...), 1000) {
		if _, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, e := range some {
				writeString(context.Background(), p, e)
			}
			return nil
		}); err != nil {
			t.Fatalf("filling a cluster: %v", err)
		}
	}
}

// keysOfAll lists what each master has, without the janitor's own.
func keysOfAll(t *testing.T, c *redistest.Cluster) (all map[string]bool, each []map[string]bool) {
	t.Helper()
	all = map[string]bool{}
	for _, s := range c.Masters {
		keys := keysOf(t, s.Client())
		maps.DeleteFunc(keys, func(key string, _ bool) bool { return strings.HasPrefix(key, "redis-janitor") })
		maps.Copy(all, keys)
		each = append(each, keys)
	}
	return all, each
}

// combotStock is what the built-in policy's site has, a third of it old enough to go at level force.
func combotStock(n int) (goes, stays []stock) {
	return []stock{
			evenly("ml_results:", n, 10*time.Minute, 2*time.Hour-3*time.Minute, bytesEach(200)),
			forever("ml_results:for ever:", n/10, 50),
			evenly("combot_cache:1:old:", n/2, 5*time.Minute, 27*time.Minute, bytesEach(100)),
			evenly("combot_cache:1:django.contrib.sessions.cacheold", n/10, 4*time.Minute, 290*time.Second, bytesEach(300)),
		}, []stock{
			evenly("combot_cache:1:new:", n/2, 35*time.Minute, time.Hour-time.Second, bytesEach(100)),
			evenly("combot_cache:1:django.contrib.sessions.cache", n/2, 10*time.Minute, 29*time.Minute, bytesEach(300)),
			forever("combot_cache:1:for ever:", n/10, 50),
			evenly("user:ml_results:", n/10, 10*time.Minute, time.Hour, bytesEach(50)),
			forever("celery", n/100, 50),
		}
}

// gonePerNode is how many of these keys each master had and has no more.
func gonePerNode(goes []stock, before, after []map[string]bool) []int64 {
	counts := make([]int64, len(before))
	for i := range before {
		for _, s := range goes {
			for _, e := range s {
				if before[i][e.key] && !after[i][e.key] {
					counts[i]++
				}
			}
		}
	}
	return counts
}

func TestAClusterIsPlannedRehearsedAndCleanedNodeByNode(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 1)
	goes, stays := combotStock(3000)
	fillCluster(t, cluster, append(slices.Clone(goes), stays...)...)
	all, before := keysOfAll(t, cluster)
	want := int64(0)
	for _, s := range goes {
		want += int64(len(s))
	}
	// A replica is as good a seed as any.
	run := func(change ...func(*janitor.Request)) *janitor.Report {
		t.Helper()
		r := clean(t, cluster.Replicas[1], append([]func(*janitor.Request){atLevel(ttlpolicy.Force), noTarget, ignoreBusy}, change...)...)
		if len(r.Nodes) != 3 {
			t.Fatalf("%d rows for three nodes: %s", len(r.Nodes), r.Message)
		}
		for i, s := range cluster.Masters {
			if r.Nodes[i].Addr != s.Addr || r.Nodes[i].Role != "master" {
				t.Errorf("row %d is %s, a %s, and not %s", i, r.Nodes[i].Addr, r.Nodes[i].Role, s.Addr)
			}
		}
		return r
	}

	planned := run(command(janitor.Plan))
	expect(t, planned, janitor.Planned, janitor.Exhausted, janitor.ExitDone)
	estimated := int64(0)
	for _, n := range planned.Nodes {
		for _, f := range n.Families {
			estimated += f.Estimate.Evict
		}
	}
	if estimated != want { // few enough keys to be looked at one by one
		t.Errorf("plan expects %d keys to go, want %d", estimated, want)
	}

	rehearsed := run(command(janitor.DryRun))
	expect(t, rehearsed, janitor.Planned, janitor.Exhausted, janitor.ExitDone)
	if left, _ := keysOfAll(t, cluster); !maps.Equal(left, all) {
		t.Error("plan or dry-run changed the keys")
	}

	evicted := run()
	expect(t, evicted, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	left, after := keysOfAll(t, cluster)
	for _, s := range goes {
		if gone := s.gone(left); gone != len(s) {
			t.Errorf("%d of %d keys such as %s went", gone, len(s), s[0].key)
		}
	}
	for _, s := range stays {
		if gone := s.gone(left); gone != 0 {
			t.Errorf("%d keys such as %s went", gone, s[0].key)
		}
	}
	if evicted.Totals.Evicted != want || rehearsed.Totals.Evicted != want {
		t.Errorf("execute counts %d, dry-run %d, want %d", evicted.Totals.Evicted, rehearsed.Totals.Evicted, want)
	}
	for i, n := range gonePerNode(goes, before, after) {
		counted := int64(0)
		for f := range evicted.Nodes[i].Families {
			counted += evicted.Nodes[i].Families[f].Evicted
			if was, is := rehearsed.Nodes[i].Families[f].Evicted, evicted.Nodes[i].Families[f].Evicted; was != is {
				t.Errorf("%s of node %d: dry-run counts %d and execute %d", evicted.Nodes[i].Families[f].Name, i, was, is)
			}
		}
		if counted != n || n == 0 {
			t.Errorf("node %d counts %d and lost %d", i, counted, n)
		}
	}

	// A cooldown for each node, in a slot of its own, and no lease any more.
	cooled := map[string]bool{}
	for _, s := range cluster.Masters {
		for key := range keysOf(t, s.Client()) {
			if strings.HasPrefix(key, "redis-janitor") {
				cooled[key] = strings.HasPrefix(key, cooldownKey+":{")
			}
		}
	}
	if len(cooled) != 3 || slices.Contains(slices.Collect(maps.Values(cooled)), false) {
		t.Errorf("the janitor's own keys are %v", cooled)
	}
	again := run()
	expect(t, again, janitor.Skipped, janitor.Cooldown, janitor.ExitDone)
	expect(t, run(failIfSkipped), janitor.Skipped, janitor.Cooldown, janitor.ExitIncomplete)
	expect(t, run(ignoreCooldown), janitor.Nothing, janitor.Exhausted, janitor.ExitDone)
}

func TestInAClusterEachNodeHasItsOwnLevelTargetAndCooldown(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0, "--latency-tracking", "no")
	// Tags that put a family's keys on the first and on the second master.
	heavy := evenly("ml_results:{0}", 4000, 10*time.Minute, 110*time.Minute, bytesEach(2000))
	fillCluster(t, cluster, evenly("ml_results:", 3000, 10*time.Minute, 110*time.Minute, bytesEach(500)), heavy)
	full := -1
	for i, s := range cluster.Masters {
		if keysOf(t, s.Client())[heavy[0].key] {
			full = i
		}
	}
	limit := atRatio(t, cluster.Masters[full].Client(), 0.7)
	run := func(change ...func(*janitor.Request)) *janitor.Report {
		return clean(t, cluster.Masters[0], append([]func(*janitor.Request){limit}, change...)...)
	}
	_, before := keysOfAll(t, cluster)
	r := run()
	expect(t, r, janitor.Evicted, janitor.TargetReached, janitor.ExitDone)
	_, after := keysOfAll(t, cluster)
	for i, n := range r.Nodes {
		if i != full {
			if n.Level != ttlpolicy.OK || n.Outcome != janitor.Nothing || n.Reason != janitor.BelowThreshold || n.Scanned != 0 || len(before[i]) != len(after[i]) {
				t.Errorf("node %d, below its threshold, is at level %s, %s, %s, scanned %d", i, n.Level, n.Outcome, n.Reason, n.Scanned)
			}
			continue
		}
		if n.Level != ttlpolicy.Cleanup || n.Outcome != janitor.Evicted || n.Memory.AfterBytes > n.Memory.TargetBytes+buffers || len(after[i]) == 0 {
			t.Errorf("the full node is at level %s, %s, with %d of %d bytes", n.Level, n.Outcome, n.Memory.AfterBytes, n.Memory.TargetBytes)
		}
		if wrong := heavy.outOfOrder(after[i]); wrong > 80 {
			t.Errorf("%d keys went before older ones", wrong)
		}
	}
	if r.Level != ttlpolicy.Cleanup {
		t.Errorf("the level of the run is %s", r.Level)
	}
	// The node that was cleaned cools down; the others may be cleaned.
	r = run(atLevel(ttlpolicy.Force), noTarget)
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	for i, n := range r.Nodes {
		if skipped := n.Outcome == janitor.Skipped && n.Reason == janitor.Cooldown; skipped != (i == full) {
			t.Errorf("node %d: %s, %s", i, n.Outcome, n.Reason)
		}
	}
}

// mastersClient is a client for the server that has a key.
func mastersClient(t *testing.T, c *redistest.Cluster, key string) *redis.Client {
	t.Helper()
	for _, s := range c.Masters {
		if client := s.Client(); client.Exists(t.Context(), key).Err() == nil {
			return client
		}
	}
	t.Fatalf("nobody has %s", key)
	return nil
}
