package keyspace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
)

// meetAtOnce is how many servers of a cluster are called at the same time while it is being met.
const meetAtOnce = 8

// shard is a primary of a cluster with its slots.
type shard struct {
	id    string
	addr  string
	slots slotSet
}

// cluster is what it takes to find out anew who has which slots.
type cluster struct {
	options Options
	// door is the seed that let us in: its user, password and TLS hold for all servers.
	door target

	mu     sync.Mutex
	shards []shard  // as they were when the cluster was met
	places []string // where the primary of each of them is by now
}

// Down is a primary that did not answer when its cluster was met.
type Down struct {
	Addr string
	Err  error
}

// Parallel calls do for 0 … count-1, at most so many at once, and returns when all are done.
func Parallel(count, atOnce int, do func(i int)) {
	var running sync.WaitGroup
	turns := make(chan struct{}, max(atOnce, 1))
	for i := range count {
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			do(i)
		})
	}
	running.Wait()
}

// enter opens a cluster by one of its servers.
func enter(ctx context.Context, o Options, door target, met *Node) (*Keyspace, error) {
	shards, err := met.shards(ctx)
	if err != nil {
		return nil, err
	}
	k := &Keyspace{cluster: &cluster{options: o, door: door, shards: shards}}
	for _, s := range shards {
		k.cluster.places = append(k.cluster.places, s.addr)
	}
	k.house = k.cluster.house
	nodes, failures := make([]*Node, len(shards)), make([]error, len(shards))
	Parallel(len(shards), meetAtOnce, func(i int) {
		nodes[i], failures[i] = k.cluster.meet(ctx, i)
	})
	for i, node := range nodes {
		if failures[i] == nil {
			k.nodes = append(k.nodes, node)
			continue
		}
		k.down = append(k.down, Down{shards[i].addr, failures[i]})
	}
	if len(k.nodes) == 0 {
		return nil, failures[0]
	}
	return k, nil
}

// meet connects to the primary of the i-th shard.
func (c *cluster) meet(ctx context.Context, i int) (*Node, error) {
	s := c.shards[i]
	node := newNode(c.options, c.target(s.addr))
	node.slots.Store(&s.slots)
	node.find = func(ctx context.Context, lost *Node) (target, slotSet, error) { return c.find(ctx, lost, i) }
	node.clustered = true
	_, err := node.Meet(ctx)
	if err != nil {
		return nil, errors.Join(err, node.close())
	}
	return node, nil
}

// house tells where the slot of the lease is.
func (c *cluster) house(ctx context.Context) (Options, target, error) {
	shards, err := c.ask(ctx, "")
	if err != nil {
		return c.options, target{}, err
	}
	for _, s := range shards {
		if s.slots.has(SlotOf(LeaseKey)) {
			return c.options, c.target(s.addr), nil
		}
	}
	return c.options, target{}, &Error{Op: "look for the lease", Addr: c.door.addr, Kind: ClusterDown, Hint: hint(ClusterDown), Err: errors.New("nobody has its slot")}
}

// target is a server of the cluster. Its certificate has to be its own: one that holds for the name by
// which the cluster was entered holds for no other, unless --tls-server-name says so.
func (c *cluster) target(addr string) target {
	return c.options.beside(c.door, addr)
}

// beside is a server at another address for which the same holds as for one.
func (o Options) beside(t target, addr string) target {
	t.network, t.addr = "tcp", addr
	if t.tls != nil && o.ServerName == "" {
		t.tls = t.tls.Clone()
		if host, _, err := net.SplitHostPort(addr); err == nil {
			t.tls.ServerName = host
		}
	}
	return t
}

// ask has any server of the cluster say who has which slots now. The lost one is asked last.
func (c *cluster) ask(ctx context.Context, lost string) ([]shard, error) {
	c.mu.Lock()
	addrs := []string{c.door.addr}
	for i, s := range c.shards {
		for _, addr := range []string{c.places[i], s.addr} {
			if !slices.Contains(addrs, addr) {
				addrs = append(addrs, addr)
			}
		}
	}
	c.mu.Unlock()
	slices.SortStableFunc(addrs, func(a, b string) int { return cmp.Compare(btoi(a == lost), btoi(b == lost)) })
	var first error
	for _, addr := range addrs {
		t := c.target(addr)
		if addr == c.door.addr {
			t = c.door
		}
		node := newNode(c.options, t)
		shards, err := node.shards(ctx)
		if err = errors.Join(err, node.close()); err == nil {
			return shards, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// find says where the server is now that has what a node had, that of the i-th shard. Where another one that is a
// node of its own has taken all of it over there is nothing left to be done in the lost one's place: Moved.
func (c *cluster) find(ctx context.Context, lost *Node, i int) (target, slotSet, error) {
	shards, err := c.ask(ctx, lost.addr)
	if err != nil {
		return target{}, slotSet{}, err
	}
	var heir *shard
	for at, s := range shards {
		if s.addr == lost.addr {
			return c.target(s.addr), s.slots, nil
		}
		if s.slots.has(lost.dealt().lowest()) {
			heir = &shards[at]
		}
	}
	if heir == nil {
		return target{}, slotSet{}, &Error{Op: "look for the primary", Addr: lost.addr, Kind: ClusterDown, Hint: hint(ClusterDown),
			Err: errors.New("nobody has its slots")}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// By where the others are now: a server that this node had and left may be its primary again.
	if at := slices.Index(c.places, heir.addr); at >= 0 && at != i {
		return target{}, slotSet{}, &Error{Op: "look for the primary", Addr: lost.addr, Kind: Moved,
			Err: fmt.Errorf("its slots went to %s", heir.addr)}
	}
	c.places[i] = heir.addr
	return c.target(heir.addr), heir.slots, nil
}

// shards asks one server of a cluster who has which slots. CLUSTER SLOTS is what all versions know.
func (n *Node) shards(ctx context.Context) (shards []shard, err error) {
	answer, err := n.data.Do(ctx, "cluster", "slots").Slice()
	if err == nil {
		shards, err = parseShards(answer, n.addr)
	}
	return shards, fail(ctx, "read CLUSTER SLOTS", n.addr, err)
}

// parseShards reads CLUSTER SLOTS: [from, to, [host, port, id, …], replicas …] a range, in any order. A
// server that does not know its own address, or is told to keep it to itself, leaves it out: it is then
// the one by which we came (redis.io, CLUSTER SLOTS).
func parseShards(answer []any, cameBy string) ([]shard, error) {
	var shards []shard
	for _, entry := range answer {
		from, to, addr, id, ok := parseRange(entry, cameBy)
		if !ok {
			return nil, fmt.Errorf("CLUSTER SLOTS answered something unexpected: %.80v", entry)
		}
		at := slices.IndexFunc(shards, func(s shard) bool { return s.addr == addr })
		switch {
		case at < 0:
			at = len(shards)
			shards = append(shards, shard{id: id, addr: addr})
		case shards[at].id != id:
			return nil, &Error{Op: "read CLUSTER SLOTS", Addr: cameBy, Kind: NotCluster, Hint: hint(NotCluster),
				Err: fmt.Errorf("several primaries share the address %s, so that none can be told from another", addr)}
		}
		for slot := from; slot <= to; slot++ {
			shards[at].slots.add(slot)
		}
	}
	if len(shards) == 0 {
		return nil, &Error{Op: "read CLUSTER SLOTS", Addr: cameBy, Kind: ClusterDown, Hint: hint(ClusterDown), Err: errors.New("no slot is served by anybody")}
	}
	slices.SortFunc(shards, func(a, b shard) int { return cmp.Compare(a.slots.lowest(), b.slots.lowest()) })
	return shards, nil
}

func parseRange(entry any, cameBy string) (from, to int, addr, id string, ok bool) {
	fields, _ := entry.([]any)
	if len(fields) < 3 {
		return 0, 0, "", "", false
	}
	first, ok1 := fields[0].(int64)
	last, ok2 := fields[1].(int64)
	node, ok3 := fields[2].([]any)
	if !ok1 || !ok2 || !ok3 || len(node) < 2 || first < 0 || last < first || last >= slotCount {
		return 0, 0, "", "", false
	}
	port, ok := node[1].(int64)
	if !ok || port < 0 || port > 65535 {
		return 0, 0, "", "", false
	}
	host, _ := node[0].(string) // nil: the one by which we came
	if len(node) > 2 {
		id, _ = node[2].(string)
	}
	if host == "?" && len(node) > 3 { // a name is wanted, and this server has none
		host = announced(node[3], "ip")
	}
	ownHost, ownPort, err := net.SplitHostPort(cameBy)
	if host == "" || host == "?" {
		host = ownHost
	}
	if port == 0 && err == nil {
		return int(first), int(last), net.JoinHostPort(host, ownPort), id, host != ""
	}
	return int(first), int(last), net.JoinHostPort(host, strconv.FormatInt(port, 10)), id, host != ""
}

// announced finds a name in a list of names and values.
func announced(list any, name string) string {
	words, _ := list.([]any)
	for i := 0; i+1 < len(words); i += 2 {
		if words[i] == name {
			value, _ := words[i+1].(string)
			return value
		}
	}
	return ""
}

// Reshaped tells whether slots have changed hands since the cluster was met, whoever has them now.
func (k *Keyspace) Reshaped(ctx context.Context) (bool, error) {
	if k.cluster == nil {
		return false, nil
	}
	shards, err := k.cluster.ask(ctx, "")
	if err != nil {
		return false, err
	}
	k.cluster.mu.Lock()
	defer k.cluster.mu.Unlock()
	same := slices.EqualFunc(shards, k.cluster.shards, func(a, b shard) bool { return a.addr == b.addr && a.slots == b.slots })
	return !same, nil
}

// Gained tells how many slots a node of a cluster has beyond those it had when it was met, and Meet
// makes them known.
func (n *Node) Gained(ctx context.Context) (slots int, err error) {
	if !n.clustered {
		return 0, nil
	}
	shards, err := n.shards(ctx)
	for _, s := range shards {
		if s.addr == n.addr {
			slots = s.slots.without(n.dealt()).size()
		}
	}
	return slots, err
}
