// Package keyspace is the only door to Redis: connections that can send nothing but an allow-list,
// the nodes behind them, pages and samples of their keys, and the scripts that evict.
package keyspace

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Keyspace is one Redis server, or all primaries of a cluster, with one selected database.
type Keyspace struct {
	nodes   []*Node
	down    []Down
	cluster *cluster // nil where it is one server
	keeper  keeper
	// house tells where the server is that has the lease; nil: it is the only node, and stays where it is.
	house func(ctx context.Context) (Options, target, error)
}

// Open connects and asks each server who it is. Errors are *BadAddress for options that cannot be
// used, and *Error for servers that cannot be; where ctx ends before, its cause.
func Open(ctx context.Context, o Options) (*Keyspace, error) {
	var k *Keyspace
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		k, err = o.find(ctx)
	}()
	select {
	case <-done:
		return k, err
	case <-ctx.Done():
		// The client waits for a server that keeps silent until its own timeout. Nothing is lost by leaving.
		go func() {
			if <-done; k != nil {
				_ = k.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// find opens the first door that leads somewhere.
func (o Options) find(ctx context.Context) (*Keyspace, error) {
	doors, watched, err := o.doors()
	switch {
	case err != nil:
		return nil, err
	case watched != nil:
		return watched.open(ctx)
	}
	var first error
	for _, door := range doors {
		k, err := o.open(ctx, door, o.Cluster || len(doors) > 1)
		if err == nil {
			return k, nil
		}
		if first == nil {
			first = err
		}
		// Another seed helps where one is not there, and nowhere else.
		if kind := KindOf(err); kind != Unreachable && kind != Loading && kind != MaxClients {
			return nil, err
		}
	}
	return nil, first
}

// open goes by one door, and into the cluster behind it where there is one.
func (o Options) open(ctx context.Context, door target, wantsCluster bool) (*Keyspace, error) {
	node := newNode(o, door)
	// Tried once: nobody wants to wait for an address that is wrong.
	info, err := node.Meet(ctx)
	switch {
	case err == nil && info.Clustered() && door.db != 0:
		err = &Error{Op: "connect", Addr: node.addr, Kind: BadDB, Hint: "leave the number out: a cluster has database 0 only",
			Err: errors.New("this server is part of a cluster, which has no database but 0")}
	case err == nil && info.Clustered():
		k, err := enter(ctx, o, door, node)
		return k, errors.Join(err, node.close())
	case err == nil && wantsCluster:
		err = &Error{Op: "connect", Addr: node.addr, Kind: NotCluster, Hint: hint(NotCluster), Err: errors.New("this server is not part of a cluster")}
	}
	if err != nil {
		return nil, errors.Join(err, node.close())
	}
	return &Keyspace{nodes: []*Node{node}, keeper: keeper{node: node}}, nil
}

// Nodes lists the servers whose keys are this keyspace's, in the order of their slots.
func (k *Keyspace) Nodes() []*Node { return k.nodes }

// Down lists the primaries of a cluster that did not answer.
func (k *Keyspace) Down() []Down { return k.down }

// Clustered tells whether this is a cluster.
func (k *Keyspace) Clustered() bool { return k.cluster != nil }

// Owner is the node that has a key; nil where that one is down.
func (k *Keyspace) Owner(key string) *Node {
	if k.cluster == nil {
		return k.nodes[0]
	}
	slot := SlotOf(key)
	for _, n := range k.nodes {
		if n.has(slot) {
			return n
		}
	}
	return nil
}

// Close closes every connection.
func (k *Keyspace) Close() error {
	var errs []error
	for _, n := range k.nodes {
		errs = append(errs, n.close())
	}
	return errors.Join(append(errs, k.keeper.close())...)
}

// Node is one server.
type Node struct {
	options Options
	addr    string
	db      int
	data    *redis.Client // the selected database
	own     *redis.Client // database 0, where the janitor's own keys live
	// first is what INFO said when the server was met: it names the run that is being cleaned.
	first  atomic.Pointer[Info]
	loaded loadedScripts

	clustered bool
	// slots are those of a cluster's node when it was met; nil: none are known. Others' work asks for them, by Owner, while this
	// node looks for whoever has them now.
	slots atomic.Pointer[slotSet]
	// find tells where the server is now that has this node's keys; nil: it stays where it is.
	find func(ctx context.Context, lost *Node) (target, slotSet, error)
}

func newNode(o Options, t target) *Node {
	n := &Node{options: o}
	n.connect(t)
	return n
}

// connect makes the clients for a server. They don't connect before they are used.
func (n *Node) connect(t target) {
	n.addr, n.db = t.addr, t.db
	// One connection scans, one reads facts, one is the canary, and the workers evict.
	n.data = n.options.client(t, t.db, n.options.Workers+3, n.greet)
	n.own = n.data
	if t.db != 0 {
		n.own = n.options.client(t, 0, 2, n.greet)
	}
}

// greet is what each new connection begins with: it gives its name, for whoever reads CLIENT LIST,
// and after the first one it makes sure that the same run of the same server answers. A cursor, a
// TTL or a deletion that another one was asked for would mean nothing here. A primary has to be one
// still, where something is to be written or another one has taken its place: sentinels cut its
// connections as they demote it.
func (n *Node) greet(ctx context.Context, conn *redis.Conn) error {
	first := n.first.Load()
	var server, role *redis.StringCmd
	_, err := conn.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ClientSetName(ctx, "redis-janitor")
		if first != nil {
			server, role = p.Info(ctx, "server"), p.Info(ctx, "replication")
		}
		return nil
	})
	var answer redis.Error
	switch {
	case err != nil && !errors.As(err, &answer):
		return err
	case server == nil:
		return nil // a name that may not be given is none that is needed
	case server.Err() != nil:
		return server.Err()
	}
	if was, is := first.Text("run_id"), ParseInfo(server.Val()).Text("run_id"); is != was {
		return unsent{&Error{Op: "connect", Addr: n.addr, Kind: Restarted, Hint: hint(Restarted),
			Err: fmt.Errorf("another run of the server answers: its run_id was %.40q and is %.40q", was, is)}}
	}
	if role.Err() != nil {
		return role.Err()
	}
	if err := n.Demoted(ParseInfo(role.Val())); err != nil {
		return unsent{err}
	}
	return nil
}

// Demoted is an *Error where INFO says that the server was a primary when it was met and is a replica now, and that
// matters: to whoever writes, and wherever another one has its place.
func (n *Node) Demoted(info Info) error {
	first := n.first.Load()
	if first == nil || first.Replica() || !info.Replica() || n.options.Mode == Reading && n.find == nil {
		return nil
	}
	return &Error{Op: "go on", Addr: n.addr, Kind: ReadOnly, Hint: hint(ReadOnly), Err: errors.New("it was a primary and is a replica now")}
}

func (n *Node) close() error {
	err := n.data.Close()
	if n.own != n.data {
		err = errors.Join(err, n.own.Close())
	}
	if err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close connections to %s: %w", n.addr, err)
	}
	return nil
}

// Connections is how many the janitor itself has to the node.
func (n *Node) Connections() int64 {
	count := int64(n.data.PoolStats().TotalConns)
	if n.own != n.data {
		count += int64(n.own.PoolStats().TotalConns)
	}
	return count
}

// Addr is HOST:PORT or the path of the socket.
func (n *Node) Addr() string { return n.addr }

// DB is the number of the selected database.
func (n *Node) DB() int { return n.db }

// First is what the server said of itself when it was met.
func (n *Node) First() Info { return *n.first.Load() }

// Leave closes the node's connections. What is asked of it from then on fails.
func (n *Node) Leave() error { return n.close() }

// Moves tells whether another server may take this one's place: in a cluster, or by sentinels.
func (n *Node) Moves() bool { return n.find != nil }

// Meet has the server that answers now be the one that is cleaned, after it was restarted or replaced:
// no cursor and nothing else that was read from the other one means anything there. Nothing may be
// under way that the other one was asked for.
func (n *Node) Meet(ctx context.Context) (Info, error) {
	if n.find != nil && n.first.Load() != nil {
		if err := n.follow(ctx); err != nil {
			return Info{}, err
		}
	}
	was := n.first.Swap(nil)
	info, err := n.info(ctx) // tried once: the caller knows for how long it is worth it
	if err == nil && n.find != nil && info.Replica() {
		err = &Error{Op: "connect", Addr: n.addr, Kind: ReadOnly, Hint: hint(ReadOnly), Err: errors.New("it is a replica, and no primary has taken its place yet")}
	}
	if err != nil {
		n.first.Store(was)
		return Info{}, fail(ctx, "connect", n.addr, err)
	}
	n.first.Store(&info)
	return info, nil
}

// Serves asks whether a cluster's server serves keys at the moment: while a primary is missing none of them does, but where
// cluster-require-full-coverage is off. The error is then of kind ClusterDown. The key need not exist, nor have its slot here, but
// has to be one that may be read: ACLs are looked at first. Outside a cluster, nothing is asked.
func (n *Node) Serves(ctx context.Context, key string) error {
	if !n.clustered {
		return nil
	}
	err := n.data.Do(ctx, "pttl", key).Err()
	switch err = fail(ctx, "ask for a key", n.addr, err); KindOf(err) {
	case Moved, NoPerm:
		// A server that does not serve says so before it names the one that has the slot (cluster.c, getNodeByQuery). Where the
		// key may not be read it can't be told, and shows with the next batch.
		return nil
	}
	return err
}

// dealt is which slots the node had when it was met.
func (n *Node) dealt() slotSet {
	if slots := n.slots.Load(); slots != nil {
		return *slots
	}
	return slotSet{}
}

// has tells whether a slot was one of the node's when it was met. A restore asks for each key, so the slots are not copied.
func (n *Node) has(slot int) bool {
	slots := n.slots.Load()
	return slots != nil && slots.has(slot)
}

// follow goes where the server is now that has this node's keys.
func (n *Node) follow(ctx context.Context) error {
	t, slots, err := n.find(ctx, n)
	if err != nil {
		return err
	}
	n.slots.Store(&slots)
	if t.addr == n.addr {
		return nil
	}
	if err := n.close(); err != nil {
		return fail(ctx, "leave", n.addr, err)
	}
	n.connect(t)
	n.loaded.clear()
	return nil
}
