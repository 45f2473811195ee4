package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"redis-janitor/janitor/redistest"
)

// clusterMasters is how many servers the cluster's keys are spread over.
const clusterMasters = 3

// masters are the servers of a cluster, none of which has a replica.
type masters struct {
	host    *host
	servers []*server
}

// startMasters starts an empty cluster.
func startMasters() *masters {
	m := &masters{host: &host{}}
	for _, s := range redistest.StartCluster(m.host, clusterMasters, 0, serverArgs()...).Masters {
		m.servers = append(m.servers, &server{Server: s, host: m.host, client: s.Client()})
	}
	return m
}

func (m *masters) close() { m.host.close() }

// fill spreads a keyspace over the masters and keeps it.
func (m *masters) fill(ctx context.Context, n int) (contents, error) {
	var addrs []string
	for _, s := range m.servers {
		addrs = append(addrs, s.Addr)
	}
	all, err := fillServers(ctx, addrs, n)
	if err != nil {
		return all, err
	}
	return all, m.each(func(s *server) error { return s.save(ctx) })
}

// each does something on each master in turn, until it fails.
func (m *masters) each(do func(*server) error) error {
	for _, s := range m.servers {
		if err := do(s); err != nil {
			return fmt.Errorf("master %s: %w", s.Addr, err)
		}
	}
	return nil
}

func (m *masters) entrance() string { return m.servers[0].Addr }

// restore starts all masters anew. A master that has just started serves nothing for two seconds.
func (m *masters) restore(ctx context.Context) error {
	if err := m.each(func(s *server) error { return s.restore(ctx) }); err != nil {
		return err
	}
	return m.each(func(s *server) error { return s.awaitSlots(ctx) })
}

// awaitSlots waits until the server finds all slots of its cluster served.
func (s *server) awaitSlots(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the cluster was not complete within a minute"))
	defer cancel()
	for {
		info, err := s.client.ClusterInfo(ctx).Result()
		if err == nil && strings.Contains(info, "cluster_state:ok\r\n") && strings.Contains(info, fmt.Sprintf("cluster_slots_ok:%d\r\n", clusterSlots)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (m *masters) cpu(ctx context.Context) (total time.Duration, err error) {
	err = m.each(func(s *server) error {
		used, err := s.cpu(ctx)
		total += used
		return err
	})
	return total, err
}

func (m *masters) drain(ctx context.Context) error {
	return m.each(func(s *server) error { return s.drain(ctx) })
}

func (m *masters) left(ctx context.Context) (total contents, err error) {
	err = m.each(func(s *server) error {
		left, err := s.left(ctx)
		total.Keys += left.Keys
		total.Results += left.Results
		total.Sessions += left.Sessions
		return err
	})
	return total, err
}

// scripts is how many scripts servers have run since they were started.
func scripts(ctx context.Context, servers ...*server) (total int64) {
	for _, s := range servers {
		calls, _ := s.ran(ctx)
		total += calls["evalsha"]
	}
	return total
}

// spreading is what the scenario found: runs on a single server and on the cluster, by pace, one a round.
type spreading struct {
	held    contents
	ways    []way
	single  map[string][]cleared
	cluster map[string][]cleared
	scripts map[string][2]int64 // of the last round, there and here
}

func (b *bench) spreading(ctx context.Context) (*spreading, error) {
	chosen, err := chosenWays(b.ways)
	if err != nil {
		return nil, err
	}
	chosen = slices.DeleteFunc(chosen, func(w way) bool { return !isPace(w.name) })
	if len(chosen) == 0 {
		return nil, errors.New("none of the chosen ways is one of the janitor's paces, and the others know no cluster")
	}
	one := startServer()
	defer one.close()
	m := startMasters()
	defer m.close()
	p := &spreading{ways: chosen, single: map[string][]cleared{}, cluster: map[string][]cleared{}, scripts: map[string][2]int64{}}
	if p.held, err = b.fill(ctx, one, b.keys); err != nil {
		return nil, err
	}
	spread, err := m.fill(ctx, b.keys)
	if err == nil && spread != p.held {
		err = fmt.Errorf("the cluster has %+v and the single server %+v", spread, p.held)
	}
	if err != nil {
		return nil, fmt.Errorf("fill a cluster: %w", err)
	}
	for round := range b.rounds {
		for _, w := range rotated(chosen, round) {
			single, err := b.clear(ctx, one, p.held, w, "", false)
			if err != nil {
				return nil, err
			}
			there := scripts(ctx, one)
			cluster, err := b.clear(ctx, m, p.held, w, "", false)
			if err != nil {
				return nil, fmt.Errorf("cluster: %w", err)
			}
			p.single[w.name], p.cluster[w.name] = append(p.single[w.name], single), append(p.cluster[w.name], cluster)
			p.scripts[w.name] = [2]int64{there, scripts(ctx, m.servers...)}
			b.log("round %d, %s: %.2fs, server %.2fs; cluster: %.2fs, servers %.2fs, peak %d MB", round+1, w.name, single.Wall.Seconds(), single.ServerCPU.Seconds(),
				cluster.Wall.Seconds(), cluster.ServerCPU.Seconds(), cluster.PeakRSS>>20)
		}
	}
	return p, nil
}

func (p *spreading) section() section {
	var rows [][]string
	highest := 0.0
	for _, w := range p.ways {
		single, cluster := rounds{quiet: p.single[w.name]}, rounds{quiet: p.cluster[w.name]}
		peak := spreadOf(cluster.peaks()).Max
		highest = max(highest, peak)
		rows = append(rows, []string{w.label,
			seconds2(spreadOf(single.walls())), seconds2(spreadOf(cluster.walls())), spreadOf(ratios(cluster.walls(), single.walls())).factor(),
			seconds2(spreadOf(single.cpus())), seconds2(spreadOf(cluster.cpus())), spreadOf(ratios(cluster.cpus(), single.cpus())).factor(),
			fmt.Sprintf("%d, %d", p.scripts[w.name][0], p.scripts[w.name][1]), fmt.Sprintf("%.0f", peak)})
	}
	return section{name: "cluster", title: "The same keys in a cluster",
		goals: []goal{{"the janitor's peak memory in a cluster, MB", "< 40", fmt.Sprintf("%.0f", highest), highest < 40}},
		text: fmt.Sprintf(`%d keys on one server, and the same keys spread over the slots of %d masters without replicas on the same machine, whose
processors they share with each other and with the janitor. It was given one master's address and found out
by itself that there are others. So many of each family are gone, and nothing else, is checked on all masters together after
every run. Ratios are of the same round; server CPU is the sum of all masters'. A cluster's scripts are more because each may
name keys of one slot only ([scaling.md](scaling.md)).

`, p.held.Keys, clusterMasters) +
			table([]string{"way", "one server, s", "cluster, s", "÷ one server", "server CPU, s", "cluster, s", "÷ one server", "scripts run, one server and cluster", "peak, MB"}, rows)}
}
