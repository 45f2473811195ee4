package janitor_test

import (
	"context"
	"maps"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// writable has a server take writes also as a replica, so that nothing but the janitor itself holds a deletion back.
var writable = []string{"--replica-read-only", "no"}

// demote has a server follow nobody that answers, and tells which keys it had at that moment.
func demote(t *testing.T, s *redistest.Server) map[string]bool {
	t.Helper()
	var keys *redis.StringSliceCmd
	if _, err := s.Client().TxPipelined(context.Background(), func(p redis.Pipeliner) error {
		p.Do(context.Background(), "REPLICAOF", "127.0.0.1", "1")
		keys = p.Keys(context.Background(), "*")
		return nil
	}); err != nil {
		t.Errorf("making %s a replica: %v", s.Addr, err)
	}
	return setOf(keys.Val())
}

func setOf(keys []string) map[string]bool {
	set := map[string]bool{}
	for _, key := range keys {
		set[key] = true
	}
	return withoutOwn(set)
}

func withoutOwn(keys map[string]bool) map[string]bool {
	maps.DeleteFunc(keys, func(key string, _ bool) bool { return key == leaseKey || key == cooldownKey })
	return keys
}

func TestNothingIsDeletedOnAServerThatHasBecomeAReplica(t *testing.T) {
	for name, change := range map[string]func(*janitor.Request){
		"":               func(*janitor.Request) {},
		"with a capsule": into(filepath.Join(t.TempDir(), "capsule")),
		"with a target":  func(r *janitor.Request) { r.Policy.Memory.Target.None, r.Policy.Memory.Target.Bytes = false, 1 },
	} {
		t.Run("midway "+name, func(t *testing.T) {
			s := redistest.Start(t, writable...)
			fillServer(t, s, 6000)
			had := withoutOwn(keysOf(t, s.Client()))
			p := redistest.Proxy(t, s.Addr)
			var left map[string]bool
			atEviction(p, 15, func() { left = demote(t, s) })
			r := clean(t, s, through(p), atLevel(ttlpolicy.Force), noTarget, ignoreBusy, change)
			expect(t, r, janitor.Failed, "readonly", janitor.ExitFailed)
			if after := withoutOwn(keysOf(t, s.Client())); !maps.Equal(after, left) {
				t.Errorf("%d keys went from a replica", len(left)-len(after))
			}
			if gone := int64(len(had) - len(left)); r.Totals.Evicted != gone || gone == 0 || r.Totals.Uncertain != 0 {
				t.Errorf("%d keys went, and the report says %+v", gone, r.Totals)
			}
		})
	}
	t.Run("while a person was asked", func(t *testing.T) {
		s := redistest.Start(t, writable...)
		fillServer(t, s, 1000)
		env := host(t.TempDir())
		var left map[string]bool
		env.Confirm = func(context.Context, *janitor.Report) (bool, error) {
			left = demote(t, s)
			return true, nil
		}
		r := checked(t, janitor.Run(t.Context(), request(s, atLevel(ttlpolicy.Force), noTarget, ignoreBusy,
			func(r *janitor.Request) { r.Confirmed = false }), env))
		expect(t, r, janitor.Refused, "readonly", janitor.ExitNoServer)
		if after := withoutOwn(keysOf(t, s.Client())); !maps.Equal(after, left) || len(left) == 0 {
			t.Errorf("%d of %d keys went from a replica", len(left)-len(after), len(left))
		}
	})
}
