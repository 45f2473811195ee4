package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// StartReplica starts a replica of another server and waits until it has its data.
func StartReplica(t testing.TB, of *Server, args ...string) *Server {
	t.Helper()
	base := []string{"--replicaof", "127.0.0.1", strconv.Itoa(of.Port)}
	if of.Password != "" {
		base = append(base, "--masterauth", of.Password)
	}
	s := Start(t, append(base, args...)...)
	await(t, "replica "+s.Addr+" of "+of.Addr, s.linkUp)
	return s
}

func (s *Server) linkUp(ctx context.Context) (missing string, err error) {
	return s.infoSays(ctx, "replication", "master_link_status:up")
}

func (s *Server) infoSays(ctx context.Context, section, line string) (missing string, err error) {
	answer, err := s.ask(ctx, "INFO", section)
	if err != nil || strings.Contains(answer, line+"\r\n") {
		return "", err
	}
	return fmt.Sprintf("%s lacks %s", s.Addr, line), nil
}

// StartSentinel starts n sentinels that watch master under a name, and waits until they know each other and its
// replicas. A majority fails it over when it has not answered for longer than patience; see FailSoon.
func StartSentinel(t testing.TB, master *Server, name string, n int) []*Server {
	t.Helper()
	sentinels := make([]*Server, n)
	for i := range sentinels {
		s := newServer(t, nil)
		s.conf = filepath.Join(s.Dir, "sentinel.conf")
		conf := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]d %[3]d\nsentinel down-after-milliseconds %[1]s %[4]s\n"+
			"sentinel failover-timeout %[1]s 5000\n", name, master.Port, n/2+1, patience)
		if master.Password != "" {
			conf += fmt.Sprintf("sentinel auth-pass %s %s\n", name, master.Password)
		}
		if err := os.WriteFile(s.conf, []byte(conf), 0o600); err != nil {
			t.Fatalf("writing a sentinel's configuration: %v", err)
		}
		s.startOnFreePort(t)
		sentinels[i] = s
	}
	replicas, err := master.ask(context.Background(), "INFO", "replication")
	if err != nil {
		t.Fatalf("asking %s for its replicas: %v", master.Addr, err)
	}
	_, count, _ := strings.Cut(replicas, "connected_slaves:")
	count, _, _ = strings.Cut(count, "\r\n")
	for _, s := range sentinels {
		await(t, "sentinel "+s.Addr, func(ctx context.Context) (string, error) {
			return s.infoSays(ctx, "sentinel", fmt.Sprintf("master0:name=%s,status=ok,address=%s,slaves=%s,sentinels=%d", name, master.Addr, count, n))
		})
	}
	return sentinels
}

// FailSoon has sentinels find out soon that a master has failed, for a test that is about to make it fail.
func FailSoon(t testing.TB, sentinels []*Server, name string) {
	t.Helper()
	for _, s := range sentinels {
		if _, err := s.ask(context.Background(), "SENTINEL", "SET", name, "down-after-milliseconds", "1000"); err != nil {
			t.Fatalf("telling sentinel %s when a master is down: %v", s.Addr, err)
		}
	}
}

// clusterSlots is how many slots every cluster has.
const clusterSlots = 16384

// Cluster is a Redis Cluster of private servers.
type Cluster struct {
	Masters  []*Server // the slots are dealt out to them in order, in even and unbroken ranges
	Replicas []*Server // replica i is one of master i modulo the number of masters

	tb testing.TB
}

// patience is after how many milliseconds sentinels and the nodes of a cluster take a server to have failed. It is long, so
// that a machine that stands still for a moment is no failure; impatience is for a test that makes one, from then on.
const patience, impatience = "15000", "3000"

// StartCluster starts a cluster and waits until every node finds it complete. args go to every node.
func StartCluster(t testing.TB, masters, replicasPerMaster int, args ...string) *Cluster {
	t.Helper()
	return startCluster(t, masters, replicasPerMaster, args, Start, func(s *Server) int { return s.Port })
}

// StartTLSCluster is StartCluster without replicas, with a TLS port beside each plain one. All servers and clients
// have certificates of one CA, and the servers' hold for 127.0.0.1 and localhost.
func StartTLSCluster(t testing.TB, masters int, args ...string) *Cluster {
	t.Helper()
	var first *Server
	start := func(t testing.TB, args ...string) *Server {
		t.Helper()
		s := newServer(t, args)
		var err error
		if first == nil {
			first, err = s, s.makeCertificates()
		} else {
			err = s.takeCertificates(first)
		}
		if err != nil {
			t.Fatalf("making certificates: %v", err)
		}
		s.startOnFreePort(t)
		return s
	}
	return startCluster(t, masters, 0, append([]string{"--tls-cluster", "yes"}, args...), start, func(s *Server) int { return s.tlsPort })
}

func startCluster(t testing.TB, masters, replicasPerMaster int, args []string, start func(testing.TB, ...string) *Server, port func(*Server) int) *Cluster {
	t.Helper()
	args = append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", impatience}, args...)
	c := &Cluster{tb: t}
	for range masters {
		c.Masters = append(c.Masters, start(t, args...))
	}
	for range masters * replicasPerMaster {
		c.Replicas = append(c.Replicas, start(t, args...))
	}
	for i, s := range c.nodes() {
		// Distinct epochs spare the nodes the rounds in which they settle who yields.
		c.run(s, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i > 0 {
			c.run(s, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(port(c.Masters[0])))
		}
	}
	for i, s := range c.Masters {
		command := []string{"CLUSTER", "ADDSLOTS"}
		for slot := i * clusterSlots / masters; slot < (i+1)*clusterSlots/masters; slot++ {
			command = append(command, strconv.Itoa(slot))
		}
		c.run(s, command...)
	}
	for i, s := range c.Replicas {
		id := c.run(c.Masters[i%masters], "CLUSTER", "MYID")
		await(t, "replica "+s.Addr, func(ctx context.Context) (string, error) {
			_, err := s.ask(ctx, "CLUSTER", "REPLICATE", id) // refused until it has heard of that master
			return "", err
		})
		await(t, "replica "+s.Addr, s.linkUp)
	}
	for _, s := range c.nodes() {
		await(t, "cluster node "+s.Addr, func(ctx context.Context) (string, error) { return c.agreed(ctx, s) })
	}
	c.wait(patience) // only now: what each tells the others goes around by this time, too
	return c
}

// FailSoon has the nodes find out soon that one has failed, for a test that is about to make it fail.
func (c *Cluster) FailSoon() {
	c.tb.Helper()
	c.wait(impatience)
}

func (c *Cluster) wait(milliseconds string) {
	c.tb.Helper()
	for _, s := range c.nodes() {
		c.run(s, "CONFIG", "SET", "cluster-node-timeout", milliseconds)
	}
}

// agreed tells what s does not know yet of the cluster.
func (c *Cluster) agreed(ctx context.Context, s *Server) (missing string, err error) {
	info, err := s.ask(ctx, "CLUSTER", "INFO")
	if err != nil {
		return "", err
	}
	if !strings.Contains(info, "cluster_state:ok\r\n") {
		return "cluster_state is not ok", nil
	}
	// Where full coverage is not required, a node is ok before it has heard who serves the rest.
	if !strings.Contains(info, fmt.Sprintf("cluster_slots_ok:%d\r\n", clusterSlots)) {
		return "slots are not served:\n" + info, nil
	}
	view, err := s.ask(ctx, "CLUSTER", "NODES")
	if err != nil {
		return "", err
	}
	masters, replicas := 0, 0
	for line := range strings.Lines(view) {
		switch flags := strings.Fields(line)[2]; strings.TrimPrefix(flags, "myself,") {
		case "master":
			masters++
		case "slave":
			replicas++
		}
	}
	if masters != len(c.Masters) || replicas != len(c.Replicas) {
		return "nodes are missing:\n" + view, nil
	}
	return "", nil
}

// CatchUp waits until every replica has run what its master had when asked, so that later counts of commands are
// without it.
func (c *Cluster) CatchUp() {
	c.tb.Helper()
	offset := regexp.MustCompile(`\nmaster_repl_offset:(\d+)`)
	for i, s := range c.Replicas {
		written := offset.FindStringSubmatch(c.run(c.Masters[i%len(c.Masters)], "INFO", "replication"))
		await(c.tb, "replica "+s.Addr, func(ctx context.Context) (string, error) {
			info, err := s.ask(ctx, "INFO", "replication")
			if err != nil {
				return "", err
			}
			applied := offset.FindStringSubmatch(info)
			if written == nil || applied == nil {
				return "a master_repl_offset", nil
			}
			want, wantErr := strconv.ParseInt(written[1], 10, 64)
			got, gotErr := strconv.ParseInt(applied[1], 10, 64)
			if got < want {
				return fmt.Sprintf("it is at %d of %d", got, want), errors.Join(wantErr, gotErr)
			}
			return "", errors.Join(wantErr, gotErr)
		})
	}
}

// Client is a plain client for the whole cluster, as Server.Client is for one server.
func (c *Cluster) Client() *redis.ClusterClient {
	var addrs []string
	for _, s := range c.Masters {
		addrs = append(addrs, s.Addr)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	c.tb.Cleanup(func() { client.Close() })
	return client
}

func (c *Cluster) nodes() []*Server {
	return append(append([]*Server{}, c.Masters...), c.Replicas...)
}

func (c *Cluster) run(s *Server, command ...string) string {
	c.tb.Helper()
	answer, err := s.ask(context.Background(), command...)
	if err != nil {
		c.tb.Fatalf("making a cluster: %s %s on %s: %v", command[0], command[1], s.Addr, err)
	}
	return answer
}
