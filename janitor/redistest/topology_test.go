package redistest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/redistest"
)

func TestATLSPortTakesOnlyClientsWithACertificate(t *testing.T) {
	s := redistest.StartTLS(t)
	ctx := context.Background()
	if err := s.Client().Ping(ctx).Err(); err != nil {
		t.Errorf("the plain port: %v", err)
	}
	pem, err := os.ReadFile(s.CACert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	own, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, certificates := range map[string][]tls.Certificate{"127.0.0.1": {own}, "localhost": {own}, "": nil} {
		c := redis.NewClient(&redis.Options{
			Addr: s.TLSAddr, MaxRetries: -1,
			TLSConfig: &tls.Config{RootCAs: roots, ServerName: name, Certificates: certificates, MinVersion: tls.VersionTLS12},
		})
		if err := c.Ping(ctx).Err(); (err == nil) != (certificates != nil) {
			t.Errorf("as %q with %d certificates: %v", name, len(certificates), err)
		}
		c.Close()
	}
}

func TestAReplicaHasItsPrimarysData(t *testing.T) {
	primary := redistest.Start(t, "--requirepass", "secret")
	ctx := context.Background()
	if err := primary.Client().Set(ctx, "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	replica := redistest.StartReplica(t, primary)
	if got := replica.Client().Get(ctx, "key").Val(); got != "value" {
		t.Errorf("the replica has %q", got)
	}
}

func TestSentinelsFailOverToTheReplica(t *testing.T) {
	primary := redistest.Start(t)
	replica := redistest.StartReplica(t, primary)
	sentinels := redistest.StartSentinel(t, primary, "mymaster", 3)
	var addrs []string
	for _, s := range sentinels {
		addrs = append(addrs, s.Addr)
	}
	ctx := context.Background()
	port := func() string {
		s := redis.NewSentinelClient(&redis.Options{Addr: addrs[0]})
		defer s.Close()
		return fmt.Sprint(s.GetMasterAddrByName(ctx, "mymaster").Val())
	}
	if got, want := port(), fmt.Sprintf("[127.0.0.1 %d]", primary.Port); got != want {
		t.Fatalf("the sentinels name %s, want %s", got, want)
	}
	redistest.FailSoon(t, sentinels, "mymaster")
	primary.Kill()
	want := fmt.Sprintf("[127.0.0.1 %d]", replica.Port)
	for deadline := time.Now().Add(time.Minute); port() != want; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the sentinels name %s, want %s", port(), want)
		}
	}
}

func TestAClusterTakesEveryKeyAndCopiesItToItsReplica(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 1)
	ctx := context.Background()
	c := cluster.Client()
	for i := range 300 {
		if err := c.Set(ctx, fmt.Sprint("key", i), "value", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	cluster.CatchUp()
	total := int64(0)
	for i, master := range cluster.Masters {
		keys := master.Client().DBSize(ctx).Val()
		if keys == 0 {
			t.Errorf("master %d has no keys", i)
		}
		total += keys
		if copied := cluster.Replicas[i].Client().DBSize(ctx).Val(); copied != keys {
			t.Errorf("replica %d has %d keys, its master %d", i, copied, keys)
		}
	}
	if total != 300 {
		t.Errorf("the masters have %d keys, want 300", total)
	}
}

func TestAClusterOfOneMasterIsComplete(t *testing.T) {
	cluster := redistest.StartCluster(t, 1, 0)
	if err := cluster.Client().Set(context.Background(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
}
