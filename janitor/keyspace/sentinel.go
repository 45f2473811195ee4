package keyspace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// sentinels know where the primary of a name is.
type sentinels struct {
	options Options
	// door says how the servers are spoken to: DB, user, password, TLS. Its address is nobody's.
	door  target
	addrs []string
}

// watched are the sentinels that the options name.
func (o Options) watched(doors []target) (*sentinels, error) {
	if len(doors) > 1 || o.Cluster || doors[0].network != "tcp" {
		return nil, &BadAddress{"with --sentinel give one --url at most, redis:// or rediss://, for database, user and TLS; a cluster has no sentinels"}
	}
	s := &sentinels{options: o, door: doors[0]}
	for _, addr := range o.Sentinels {
		if !strings.Contains(addr, ":") {
			addr = net.JoinHostPort(addr, "26379")
		}
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || !isPort(port) {
			return nil, &BadAddress{"--sentinel takes HOST:PORT, with a port from 1 to 65535"}
		}
		s.addrs = append(s.addrs, addr)
	}
	return s, nil
}

// open connects to the primary that the sentinels name. One that turns out to be a replica is not taken: a
// sentinel may not have heard yet of a failover.
func (s *sentinels) open(ctx context.Context) (*Keyspace, error) {
	o := s.options
	var first error
	var tried []string
	for _, sentinel := range s.addrs {
		addr, err := s.ask(ctx, sentinel)
		if err == nil && !slices.Contains(tried, addr) {
			tried = append(tried, addr)
			node := newNode(o, o.beside(s.door, addr))
			node.find = s.find
			info, meetErr := node.Meet(ctx)
			if meetErr == nil && info.Clustered() {
				meetErr = &Error{Op: "connect", Addr: addr, Kind: NotCluster, Hint: "leave out --sentinel and give a server of the cluster as --url", Err: errors.New("this server is part of a cluster")}
			}
			if meetErr == nil {
				return &Keyspace{nodes: []*Node{node}, house: s.house}, nil
			}
			err = errors.Join(meetErr, node.close())
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// find says where the primary is now.
func (s *sentinels) find(ctx context.Context, _ *Node) (target, slotSet, error) {
	_, t, err := s.house(ctx)
	return t, slotSet{}, err
}

// house says where the primary is, by the first sentinel that answers: the lease is there.
func (s *sentinels) house(ctx context.Context) (Options, target, error) {
	var first error
	for _, sentinel := range s.addrs {
		addr, err := s.ask(ctx, sentinel)
		if err == nil {
			return s.options, s.options.beside(s.door, addr), nil
		}
		if first == nil {
			first = err
		}
	}
	return s.options, target{}, first
}

// ask asks one sentinel.
func (s *sentinels) ask(ctx context.Context, sentinel string) (addr string, err error) {
	o, t := s.options, s.options.beside(s.door, sentinel)
	o.Mode = inquiring
	t.username, t.password, t.db = "", o.SentinelPassword, 0
	client := o.client(t, 0, 1, func(context.Context, *redis.Conn) error { return nil })
	defer func() { err = errors.Join(err, client.Close()) }()
	answer, err := client.Do(ctx, "sentinel", "get-master-addr-by-name", o.MasterName).Slice()
	switch {
	case errors.Is(err, redis.Nil):
		return "", &Error{Op: "ask for the primary", Addr: sentinel, Kind: NoPrimary, Hint: hint(NoPrimary), Err: fmt.Errorf("this sentinel watches no primary called %q", o.MasterName)}
	case err != nil:
		return "", fail(ctx, "ask for the primary", sentinel, err)
	}
	if len(answer) == 2 {
		host, ok1 := answer[0].(string)
		port, ok2 := answer[1].(string)
		if ok1 && ok2 && host != "" {
			return net.JoinHostPort(host, port), nil
		}
	}
	return "", &Error{Op: "ask for the primary", Addr: sentinel, Kind: Other, Err: fmt.Errorf("the sentinel answered something unexpected: %.80v", answer)}
}
