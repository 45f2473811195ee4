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
	nodes []*Node
}

// Open connects and asks each server who it is. Errors are *BadAddress for options that cannot be
// used, and *Error for servers that cannot be.
func Open(ctx context.Context, o Options) (*Keyspace, error) {
	if len(o.Sentinels) > 0 {
		return nil, &BadAddress{"--sentinel is not supported by this version: give the primary's own URL"}
	}
	if len(o.URLs) != 1 {
		return nil, &BadAddress{"give one --url: clusters with several seeds are not supported by this version"}
	}
	t, err := o.parseTarget(o.URLs[0])
	if err != nil {
		return nil, err
	}
	node := newNode(o, t)
	// Tried once: nobody wants to wait for an address that is wrong.
	info, err := node.info(ctx)
	if err != nil {
		err = fail(ctx, "connect", node.addr, err)
		return nil, errors.Join(err, node.close())
	}
	if info.Clustered() {
		err := &Error{Op: "connect", Addr: node.Addr(), Kind: Other, Err: errors.New("this server is part of a cluster"),
			Hint: "clusters are not supported by this version"}
		return nil, errors.Join(err, node.close())
	}
	node.first.Store(&info)
	return &Keyspace{nodes: []*Node{node}}, nil
}

// Nodes lists the servers whose keys are this keyspace's.
func (k *Keyspace) Nodes() []*Node { return k.nodes }

// Close closes every connection.
func (k *Keyspace) Close() error {
	var errs []error
	for _, n := range k.nodes {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}

// Node is one server.
type Node struct {
	addr string
	db   int
	data *redis.Client // the selected database
	own  *redis.Client // database 0, where the janitor's own keys live
	// first is what INFO said when the server was met: it names the run that is being cleaned.
	first  atomic.Pointer[Info]
	loaded loadedScripts
}

func newNode(o Options, t target) *Node {
	n := &Node{addr: t.addr, db: t.db}
	// One connection scans, one reads facts, one is the canary, and the workers evict.
	n.data = o.client(t, t.db, o.Workers+3, n.greet)
	n.own = n.data
	if t.db != 0 {
		n.own = o.client(t, 0, 2, n.greet)
	}
	return n
}

// greet is what each new connection begins with: it gives its name, for whoever reads CLIENT LIST,
// and after the first one it makes sure that the same run of the same server answers. A cursor, a
// TTL or a deletion that another one was asked for would mean nothing here.
func (n *Node) greet(ctx context.Context, conn *redis.Conn) error {
	first := n.first.Load()
	var server *redis.StringCmd
	_, err := conn.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ClientSetName(ctx, "redis-janitor")
		if first != nil {
			server = p.Info(ctx, "server")
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
	return nil
}

func (n *Node) close() error {
	err := n.data.Close()
	if n.own != n.data {
		err = errors.Join(err, n.own.Close())
	}
	if err != nil {
		return fmt.Errorf("close connections to %s: %w", n.addr, err)
	}
	return nil
}

// Addr is HOST:PORT or the path of the socket.
func (n *Node) Addr() string { return n.addr }

// DB is the number of the selected database.
func (n *Node) DB() int { return n.db }

// First is what the server said of itself when it was met.
func (n *Node) First() Info { return *n.first.Load() }

// Meet has the server that answers now be the one that is cleaned, after it was restarted or replaced:
// no cursor and nothing else that was read from the other one means anything there. Nothing may be
// under way that the other one was asked for.
func (n *Node) Meet(ctx context.Context) (Info, error) {
	was := n.first.Swap(nil)
	info, err := n.info(ctx) // tried once: the caller knows for how long it is worth it
	if err != nil {
		n.first.Store(was)
		return Info{}, fail(ctx, "read INFO", n.addr, err)
	}
	n.first.Store(&info)
	return info, nil
}
