package keyspace

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"redis-janitor/janitor/redistest"
)

// enterCluster opens a cluster by one of its servers.
func enterCluster(t *testing.T, o Options) *Keyspace {
	t.Helper()
	k, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("opening a cluster: %v", err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return k
}

func TestTheGuardHoldsOnEveryConnectionOfACluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 1)
	k := enterCluster(t, options(cluster.Replicas[0].URL(), Evicting))
	if _, _, err := k.TakeLease(t.Context(), "t", "h", "s", time.Minute, false); err != nil {
		t.Fatal(err)
	}
	nodes := append(slices.Clone(k.Nodes()), k.keeper.node)
	// One that has gone to another server has new connections.
	moved := newNode(k.cluster.options, k.cluster.target(cluster.Masters[0].Addr))
	moved.find = func(context.Context, *Node) (target, slotSet, error) {
		return k.cluster.target(cluster.Masters[1].Addr), slotSet{}, nil
	}
	for range 2 {
		if _, err := moved.Meet(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	nodes = append(nodes, moved)
	if moved.Addr() != cluster.Masters[1].Addr {
		t.Errorf("it is at %s", moved.Addr())
	}
	if len(k.Nodes()) != 3 {
		t.Fatalf("%d nodes", len(k.Nodes()))
	}
	cluster.CatchUp() // with the lease
	all := slices.Concat(cluster.Masters, cluster.Replicas)
	for _, s := range all {
		s.ResetStats()
	}
	for _, n := range nodes {
		for _, forbidden := range [][]any{{"FLUSHDB"}, {"FLUSHALL"}, {"KEYS", "*"}, {"DEL", "a"}, {"UNLINK", "a"}, {"CONFIG", "SET", "maxmemory", "1"}, {"CLUSTER", "RESET"},
			{"CLUSTER", "FAILOVER"}, {"CLUSTER", "FLUSHSLOTS"}, {"CLUSTER", "SETSLOT", "1", "STABLE"}, {"MIGRATE"}, {"EVAL", "return 1", "0"}, {"SENTINEL", "FAILOVER", "m"}, {"READWRITE"}, {"ASKING"}} {
			if err := n.data.Do(t.Context(), forbidden...).Err(); !errors.As(err, new(*Forbidden)) {
				t.Errorf("%v on %s: %v", forbidden, n.addr, err)
			}
		}
	}
	if err := moved.close(); err != nil {
		t.Error(err)
	}
	for _, s := range all {
		for name, calls := range s.CommandStats(t.Context()) {
			switch name {
			case "info", "config|resetstat", "hello", "client|setname", "ping", "replconf":
			default:
				t.Errorf("%s ran %s %d times", s.Addr, name, calls)
			}
		}
	}
}

func TestWhoHasAKeyIsToldAlsoWhileANodeLooksForItsSlots(t *testing.T) {
	cluster := redistest.StartCluster(t, 2, 0)
	k := enterCluster(t, options(cluster.Masters[0].URL(), Evicting))
	n := k.Nodes()[0]
	key := "{" + n.dealt().tag() + "}"
	var met sync.WaitGroup
	met.Go(func() {
		for range 20 {
			if _, err := n.Meet(t.Context()); err != nil {
				t.Errorf("meeting %s again: %v", n.Addr(), err)
			}
		}
	})
	done := make(chan struct{})
	go func() { met.Wait(); close(done) }()
	for {
		if owner := k.Owner(key); owner != n {
			t.Fatal("another node has the key by now")
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestASentinelIsAskedForThePrimaryAndNothingElse(t *testing.T) {
	o := options("redis://127.0.0.1:1", inquiring)
	client := o.client(target{network: "tcp", addr: "127.0.0.1:1"}, 0, 1, nil)
	defer client.Close()
	for _, forbidden := range [][]any{{"SENTINEL", "FAILOVER", "m"}, {"SENTINEL", "REMOVE", "m"}, {"SENTINEL", "SET", "m", "quorum", "1"}, {"SHUTDOWN"}, {"INFO"}} {
		if err := client.Do(t.Context(), forbidden...).Err(); !errors.As(err, new(*Forbidden)) {
			t.Errorf("%v: %v", forbidden, err)
		}
	}
}

func TestABatchOfManySlotsGoesSlotBySlot(t *testing.T) {
	cluster := redistest.StartCluster(t, 2, 0)
	s := cluster.Masters[0]
	c := s.Client()
	k := enterCluster(t, options(s.URL(), Evicting))
	n := k.Nodes()[0]
	var tags, keys []string // of slots that this server has
	for i := 0; len(tags) < 20; i++ {
		if tag := "{" + strconv.Itoa(i) + "}"; n.has(SlotOf(tag)) {
			tags = append(tags, tag)
		}
	}
	for i := range 60 {
		key := tags[i%20] + strconv.Itoa(i)
		keys = append(keys, key)
		do(t, c, cmd("set", key, "v", "px", 60_000+1000*(i%2)*3600))
	}
	if groups := bySlot(keys); len(groups) != 20 || len(groups[0]) != 3 {
		t.Errorf("%d groups: %v", len(groups), groups)
	}
	batch := Batch{Keys: keys, MaxTTL: time.Hour, Cooldown: time.Minute, Mark: "mark", MeasureEach: 1}
	if err := n.CanEvict(t.Context()); err != nil {
		t.Fatal(err)
	}
	do(t, c, cmd("script", "flush")) // a failover does that
	r, err := n.Evict(t.Context(), batch)
	if err != nil || r.Refusal != nil || r.Unmarked != "" {
		t.Fatalf("%v, %v, %q", err, r.Refusal, r.Unmarked)
	}
	for i, fate := range r.Fates {
		if want := map[bool]Fate{true: Gone, false: Refreshed}[i%2 == 0]; fate != want || exists(t, c, keys[i]) != strconv.Itoa(i%2) {
			t.Errorf("%s: %c, want %c", keys[i], fate, want)
		}
	}
	if r.Measured != 30 || r.Bytes <= 0 {
		t.Errorf("%d measured, %d bytes", r.Measured, r.Bytes)
	}
	if left, err := n.CooldownLeft(t.Context()); err != nil || left <= 50*time.Second {
		t.Errorf("the cooldown lasts %s: %v", left, err)
	}
	// A slot on its way: what is still here goes, what isn't stays, and the whole slot where that can't be told.
	trio := []string{tags[1] + "x", tags[1] + "gone", tags[2] + "x"}
	do(t, c, cmd("set", trio[0], "v", "px", 60_000), cmd("set", trio[2], "v", "px", 60_000),
		cmd("cluster", "setslot", SlotOf(trio[0]), "migrating", cluster.Masters[1].Client().Do(t.Context(), "cluster", "myid").Val()))
	facts, err := n.Facts(t.Context(), trio, Ask{})
	if err != nil || facts[0].Moved || !facts[1].Moved || facts[2].Moved {
		t.Errorf("%+v: %v", facts, err)
	}
	r, err = n.Evict(t.Context(), Batch{Keys: trio, MaxTTL: time.Hour})
	if err != nil || fates(r) != "mme" || exists(t, c, trio[0]) != "1" {
		t.Errorf("%s: %v", fates(r), err)
	}
	// A cooldown that is somebody's list is not touched.
	do(t, c, cmd("del", n.cooldownKey()), cmd("rpush", n.cooldownKey(), "theirs"), cmd("set", tags[3]+"y", "v", "px", 60_000))
	if r, err = n.Evict(t.Context(), Batch{Keys: []string{tags[3] + "y"}, MaxTTL: time.Hour, Cooldown: time.Minute, Mark: "m"}); err != nil || r.Unmarked == "" || fates(r) != "e" {
		t.Errorf("%s, %q: %v", fates(r), r.Unmarked, err)
	}
}

func TestALeaseIsAskedForOnceMoreWhereAConnectionWasLost(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	k := enterCluster(t, options(cluster.Masters[0].URL(), Evicting))
	proxy := redistest.Proxy(t, k.Owner(LeaseKey).Addr())
	k.house = func(context.Context) (Options, target, error) {
		return k.cluster.options, k.cluster.target(proxy.Addr), nil
	}
	for _, renew := range []bool{false, true} {
		proxy.DropNextReply("EVALSHA")
		if _, ours, err := k.TakeLease(t.Context(), "t", "h", "s", time.Minute, renew); err != nil || !ours {
			t.Errorf("renewing %v: ours %v: %v", renew, ours, err)
		}
	}
}

func TestKeysOfASlotThatAnotherMasterHasByNowStayWhileTheRestOfTheirBatchGoes(t *testing.T) {
	cluster := redistest.StartCluster(t, 2, 0)
	from, to := cluster.Masters[0], cluster.Masters[1]
	k := enterCluster(t, options(from.URL(), Evicting))
	n := k.Nodes()[0]
	var keys []string // two of each of four slots
	for i := 0; len(keys) < 8; i++ {
		if tag := "{" + strconv.Itoa(i) + "}"; n.has(SlotOf(tag)) {
			keys = append(keys, tag+"a", tag+"b")
		}
	}
	for _, key := range keys {
		do(t, from.Client(), cmd("set", key, "v", "px", 60_000))
	}
	// The whole of the second slot goes, and its keys with it; the node knows nothing of that.
	slot := SlotOf(keys[2])
	fromID, toID := from.Client().Do(t.Context(), "cluster", "myid").Val(), to.Client().Do(t.Context(), "cluster", "myid").Val()
	do(t, to.Client(), cmd("cluster", "setslot", slot, "importing", fromID))
	do(t, from.Client(), cmd("cluster", "setslot", slot, "migrating", toID),
		cmd("migrate", "127.0.0.1", to.Port, "", 0, 10_000, "keys", keys[2], keys[3]))
	do(t, to.Client(), cmd("cluster", "setslot", slot, "node", toID))
	do(t, from.Client(), cmd("cluster", "setslot", slot, "node", toID))
	to.ResetStats()
	r, err := n.Evict(t.Context(), Batch{Keys: keys, MaxTTL: time.Hour})
	if err != nil || fates(r) != "eemmeeee" {
		t.Errorf("%s: %v", fates(r), err)
	}
	if there := exists(t, to.Client(), keys[2], keys[3]); there != "11" {
		t.Errorf("of the keys that went to the other master there are %s", there)
	}
	if calls := to.CommandStats(t.Context()); calls["evalsha"]+calls["unlink"] > 0 {
		t.Errorf("the other master was asked: %v", calls)
	}
}
