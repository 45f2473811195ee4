package embedded_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/demo/embedded"
	"redis-janitor/janitor/keyspace"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func start(t *testing.T) (*embedded.Server, *redis.Client) {
	t.Helper()
	s, err := embedded.NewServer(noon)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	options, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	options.DisableIdentity = true
	client := redis.NewClient(options)
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, client
}

func info(t *testing.T, client *redis.Client) keyspace.Info {
	t.Helper()
	text, err := client.Info(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	return keyspace.ParseInfo(text)
}

func used(t *testing.T, client *redis.Client) int64 {
	t.Helper()
	bytes, ok := info(t, client).UsedMemory()
	if !ok {
		t.Fatal("INFO does not tell used_memory")
	}
	return bytes
}

func must(t *testing.T, cmd redis.Cmder) {
	t.Helper()
	if cmd.Err() != nil {
		t.Fatalf("%v: %v", cmd.Args()[0], cmd.Err())
	}
}

func TestUsedMemoryIsTheSumOfWhatIsStored(t *testing.T) {
	s, client := start(t)
	ctx := t.Context()
	if used(t, client) != 0 {
		t.Errorf("an empty server uses %d bytes", used(t, client))
	}
	must(t, client.Set(ctx, "forever", strings.Repeat("x", 1000), 0))
	must(t, client.Set(ctx, "soon", strings.Repeat("y", 500), time.Minute))
	want := embedded.StringBytes("forever", strings.Repeat("x", 1000), 0) + embedded.StringBytes("soon", strings.Repeat("y", 500), time.Minute)
	if got := used(t, client); got != want || got < 1500 {
		t.Errorf("used_memory = %d, want %d", got, want)
	}
	other := redis.NewClient(&redis.Options{Addr: client.Options().Addr, DB: 3, DisableIdentity: true})
	defer other.Close()
	must(t, other.HSet(ctx, "hash", "field", strings.Repeat("z", 300)))
	if got := used(t, client); got < want+300 {
		t.Errorf("used_memory = %d, but DB 3 holds 300 bytes more than %d", got, want)
	}
	if keys, expires := info(t, client).Keys(0); keys != 2 || expires != 1 {
		t.Errorf("db0: keys=%d,expires=%d, want 2 and 1", keys, expires)
	}
	must(t, other.Unlink(ctx, "hash"))
	must(t, client.Unlink(ctx, "forever"))
	if got := used(t, client); got != embedded.StringBytes("soon", strings.Repeat("y", 500), time.Minute) {
		t.Errorf("used_memory = %d after the others were deleted", got)
	}
	s.Advance(time.Minute)
	if got := used(t, client); got != 0 {
		t.Errorf("used_memory = %d after the last key's time had come", got)
	}
}

func TestMemoryUsageIsTheSameForClientsAndScripts(t *testing.T) {
	_, client := start(t)
	ctx := t.Context()
	value := strings.Repeat("x", 1000)
	must(t, client.Set(ctx, "key", value, 0))
	told, err := client.MemoryUsage(ctx, "key").Result()
	if err != nil || told < 1003 {
		t.Fatalf("MEMORY USAGE = %d, %v", told, err)
	}
	inScript, err := client.Eval(ctx, "return redis.call('MEMORY', 'USAGE', KEYS[1])", []string{"key"}).Int64()
	if err != nil || inScript != told {
		t.Errorf("in a script MEMORY USAGE = %d, %v, want %d", inScript, err, told)
	}
	if left := used(t, client) - told; left <= 0 || left > 64 {
		t.Errorf("used_memory is %d bytes more than MEMORY USAGE, want a bucket", left)
	}
	if err := client.MemoryUsage(ctx, "no such key").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("MEMORY USAGE of a missing key: %v, want nil", err)
	}
}

func TestTheClockStandsStillUntilItIsMoved(t *testing.T) {
	s, client := start(t)
	ctx := t.Context()
	must(t, client.Set(ctx, "key", "value", time.Hour))
	for range 3 {
		if left := client.PTTL(ctx, "key").Val(); left != time.Hour {
			t.Errorf("PTTL = %s, want 1h", left)
		}
	}
	s.Advance(20 * time.Minute)
	if left := client.PTTL(ctx, "key").Val(); left != 40*time.Minute {
		t.Errorf("PTTL = %s, want 40m", left)
	}
	if got := s.Now().Sub(noon); got != 20*time.Minute {
		t.Errorf("the clock moved by %s", got)
	}
	used(t, client)
	must(t, client.MemoryUsage(ctx, "key"))
	if idle := client.ObjectIdleTime(ctx, "key").Val(); idle != 20*time.Minute {
		t.Errorf("idle for %s, want 20m: looking is no use of a key", idle)
	}
}

func TestInfoSaysWhatTheServerIs(t *testing.T) {
	_, client := start(t)
	_, second := start(t)
	first := info(t, client)
	if got := first.Server(); !strings.Contains(got, "embedded (miniredis)") {
		t.Errorf("the server calls itself %q", got)
	}
	if first.Replica() || first.Clustered() || first.Forking() != "" || first.Text("role") != "master" {
		t.Error("the server is no plain primary")
	}
	if id := first.Text("run_id"); len(id) != 40 || id == info(t, second).Text("run_id") {
		t.Errorf("run_id %q does not tell two servers apart", id)
	}
}

func TestEveryCommandIsCounted(t *testing.T) {
	s, client := start(t)
	ctx := context.Background()
	must(t, client.Set(ctx, "a", "1", 0))
	must(t, client.Eval(ctx, "return redis.call('UNLINK', KEYS[1])", []string{"a"}))
	used(t, client)
	calls := s.Calls()
	for name, want := range map[string]int64{"SET": 1, "EVAL": 1, "UNLINK": 1, "INFO": 1, "SCAN": 0, "FLUSHDB": 0} {
		if calls[name] != want {
			t.Errorf("%s was counted %d times, want %d", name, calls[name], want)
		}
	}
}

func TestEntriesHoldEveryValueAndItsTTL(t *testing.T) {
	s, client := start(t)
	ctx := t.Context()
	must(t, client.Set(ctx, "string\n\xff", "value", time.Hour))
	must(t, client.RPush(ctx, "list", "b", "a"))
	must(t, client.SAdd(ctx, "set", "b", "a"))
	must(t, client.ZAdd(ctx, "zset", redis.Z{Score: 2, Member: "b"}, redis.Z{Score: 1, Member: "a"}))
	must(t, client.HSet(ctx, "hash", "b", "2", "a", "1"))
	got, err := s.Entries()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]embedded.Entry{
		"string\n\xff": {Type: "string", Value: "value", TTL: time.Hour},
		"list":         {Type: "list", Value: "[b a]"},
		"set":          {Type: "set", Value: "[a b]"},
		"zset":         {Type: "zset", Value: "map[a:1 b:2]"},
		"hash":         {Type: "hash", Value: "map[a:1 b:2]"},
	}
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	for key, entry := range want {
		if got[key] != entry {
			t.Errorf("%q is %+v, want %+v", key, got[key], entry)
		}
	}
}
