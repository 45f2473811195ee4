package redistest_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/redistest"
)

func TestAMonitorHasSeenEveryCommandThatWasAnswered(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	c := s.ClientDB(3)
	if err := c.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	m := s.Monitor(t)
	binary := "a \"quoted\" key\r\n\x00\xff"
	// So many at once that they are answered well before they are read from the monitor.
	const many = 20_000
	if _, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for range many {
			p.Exists(ctx, "key")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range m.Commands() {
		if name == "EXISTS" {
			seen++
		}
	}
	if seen != many {
		t.Fatalf("saw %d commands, want %d", seen, many)
	}
	c.Set(ctx, binary, "value", 0)
	c.Eval(ctx, "return redis.call('pttl', KEYS[1])", []string{"key"})
	calls := m.Calls()
	isSet := func(c redistest.Call) bool {
		return c.Name == "SET" && slices.Equal(c.Args, []string{binary, "value"}) && c.DB == 3 && !c.Lua
	}
	if !slices.ContainsFunc(calls, isSet) {
		t.Errorf("did not see SET %q in DB 3", binary)
	}
	if !slices.ContainsFunc(calls, func(c redistest.Call) bool { return c.Name == "PTTL" && c.Lua }) {
		t.Error("did not see the script's own command")
	}
	m.Stop()
	c.Get(ctx, "key")
	if after := m.Calls(); len(after) != len(calls) {
		t.Errorf("saw %v after the stop", after[len(calls):])
	}
}

// A fact of the server that the tests of what leaves the process lean on.
func TestCommandStatsCountWhatAMonitorCannotSee(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	c := s.Client()
	s.ResetStats()
	m := s.Monitor(t)
	c.ConfigGet(ctx, "maxmemory")
	c.ClientList(ctx)
	c.Get(ctx, "key")
	c.Get(ctx, "key")
	if names := m.Commands(); slices.Contains(names, "CONFIG") || slices.Contains(names, "CLIENT") {
		t.Errorf("MONITOR shows %v", names)
	}
	stats := s.CommandStats(ctx)
	for name, want := range map[string]int64{"config|get": 1, "client|list": 1, "get": 2, "keys": 0, "info": 0} {
		if stats[name] != want {
			t.Errorf("%s was counted %d times, want %d", name, stats[name], want)
		}
	}
	s.ResetStats()
	if stats := s.CommandStats(ctx); stats["get"] != 0 || stats["config|resetstat"] != 1 {
		t.Errorf("after a reset: %v", stats)
	}
}

func TestASnapshotChangesWithTypeExpiryAndValueOnly(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	c := s.Client()
	write := func(commands ...[]any) {
		t.Helper()
		for _, command := range commands {
			if err := c.Do(ctx, command...).Err(); err != nil {
				t.Fatal(command, err)
			}
		}
	}
	write(
		[]any{"SET", "string", "value", "PX", 3600000}, []any{"RPUSH", "list", "a", "b"}, []any{"SADD", "set", "a", "b"},
		[]any{"HSET", "hash", "a", "1", "b", "2"}, []any{"ZADD", "zset", 1, "a", 2, "b"}, []any{"XADD", "stream", "1-1", "f", "v"},
	)
	before := redistest.Snapshot(ctx, c)
	if len(before) != 6 || before["string"].Type != "string" || before["string"].ExpiresAt <= time.Now().UnixMilli() || before["list"].ExpiresAt != -1 {
		t.Fatalf("snapshot: %v", before)
	}
	write([]any{"DEL", "set", "hash"}, []any{"SADD", "set", "b", "a"}, []any{"HSET", "hash", "b", "2", "a", "1"})
	if after := redistest.Snapshot(ctx, c); !maps.Equal(before, after) {
		t.Errorf("order made a difference:\n%v\n%v", before, after)
	}
	for _, change := range [][]any{
		{"PEXPIRE", "string", 7200000}, {"APPEND", "string", "x"}, {"LSET", "list", 0, "x"}, {"SADD", "set", "x"}, {"HSET", "hash", "a", "2"},
		{"ZADD", "zset", 3, "a"}, {"XADD", "stream", "2-1", "f", "v"}, {"PERSIST", "string"}, {"DEL", "list"}, {"RPUSH", "new", "x"},
	} {
		before := redistest.Snapshot(ctx, c)
		write(change)
		if maps.Equal(before, redistest.Snapshot(ctx, c)) {
			t.Errorf("%v went unseen", change)
		}
	}
}

func TestASnapshotHoldsEveryKeyOfItsDatabaseAlone(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	_, err := s.ClientDB(1).Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 5000 {
			p.Set(ctx, string(rune('a'+i%26))+time.Duration(i).String(), "x", 0)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(redistest.Snapshot(ctx, s.ClientDB(1))); n != 5000 {
		t.Errorf("%d keys in DB 1, want 5000", n)
	}
	if n := len(redistest.Snapshot(ctx, s.Client())); n != 0 {
		t.Errorf("%d keys in DB 0, want none", n)
	}
}
