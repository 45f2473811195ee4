package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/redistest"
)

// host lets package redistest start servers outside of a test: what would fail the test panics with a failure,
// which main reports.
type host struct {
	testing.TB
	ends []func()
}

// failure is what redistest could not do.
type failure struct{ error }

func (h *host) Helper()                           {}
func (h *host) Failed() bool                      { return false }
func (h *host) Cleanup(f func())                  { h.ends = append(h.ends, f) }
func (h *host) Logf(string, ...any)               {}
func (h *host) Errorf(format string, args ...any) { h.Fatalf(format, args...) }
func (h *host) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func (h *host) close() {
	for i := len(h.ends) - 1; i >= 0; i-- {
		h.ends[i]()
	}
	h.ends = nil
}

// store is where a keyspace lies: on one server, or on the masters of a cluster.
type store interface {
	entrance() string // the address by which a way gets at all of it
	restore(context.Context) error
	cpu(context.Context) (time.Duration, error)
	drain(context.Context) error
	left(context.Context) (contents, error)
}

// server is one private redis-server, with the snapshot that it is started again from.
type server struct {
	*redistest.Server
	host   *host
	client *redis.Client
}

// serverArgs are all servers' arguments. Snapshots are neither compressed nor summed: that time is nobody's. Commands that
// take longer than the shortest of the paces' slices are kept in the slow log.
func serverArgs() []string {
	return []string{"--dbfilename", "dump.rdb", "--rdbcompression", "no", "--rdbchecksum", "no",
		"--slowlog-log-slower-than", strconv.FormatInt(sliceOf("gentle").Microseconds(), 10), "--slowlog-max-len", strconv.Itoa(slowLogLength)}
}

// startServer starts an empty server.
func startServer() *server {
	h := &host{}
	s := redistest.Start(h, serverArgs()...)
	return &server{Server: s, host: h, client: s.Client()}
}

func (s *server) close() { s.host.close() }

func (s *server) entrance() string { return s.Addr }

// ran is how often the server has run each command since its statistics were reset, and how many that are.
func (s *server) ran(ctx context.Context) (commands map[string]int64, total int64) {
	commands = s.CommandStats(ctx)
	delete(commands, "config|resetstat") // ours
	for _, calls := range commands {
		total += calls
	}
	return commands, total
}

func (s *server) snapshotPath() string { return filepath.Join(s.Dir, "kept.rdb") }

// save keeps the keyspace as it is now.
func (s *server) save(ctx context.Context) error {
	saving := redis.NewClient(&redis.Options{Addr: s.Addr, Protocol: 2, DisableIdentity: true, ReadTimeout: 10 * time.Minute, MaxRetries: -1})
	defer saving.Close()
	if err := saving.Save(ctx).Err(); err != nil {
		return fmt.Errorf("save the keyspace: %w", err)
	}
	return os.Rename(filepath.Join(s.Dir, "dump.rdb"), s.snapshotPath())
}

// restore starts the server anew with the saved keyspace, so that no way inherits what an earlier one left behind:
// fragmented memory, a table half resized, loaded scripts.
func (s *server) restore(context.Context) error {
	s.Kill()
	dump := filepath.Join(s.Dir, "dump.rdb")
	if err := os.Remove(dump); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Link(s.snapshotPath(), dump); err != nil {
		return err
	}
	s.Restart(s.host) // waits until the snapshot is loaded
	return nil
}

func (s *server) info(ctx context.Context) (keyspace.Info, error) {
	text, err := s.client.Info(ctx).Result()
	return keyspace.ParseInfo(text), err
}

// cpu is the processor time that the server has used, in all its threads.
func (s *server) cpu(ctx context.Context) (time.Duration, error) {
	info, err := s.info(ctx)
	if err != nil {
		return 0, err
	}
	total := time.Duration(0)
	for _, field := range []string{"used_cpu_user", "used_cpu_sys"} {
		seconds, err := strconv.ParseFloat(info.Text(field), 64)
		if err != nil {
			return 0, fmt.Errorf("read %s of redis-server: %w", field, err)
		}
		total += time.Duration(seconds * float64(time.Second))
	}
	return total, nil
}

// drain waits until what was unlinked is really freed.
func (s *server) drain(ctx context.Context) error {
	for {
		info, err := s.info(ctx)
		if err != nil {
			return err
		}
		if info.PendingFrees() == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// left counts the keys that are not the janitor's own, in one moment.
func (s *server) left(ctx context.Context) (contents, error) {
	const count = `local n = {redis.call('DBSIZE')}
for i, pattern in ipairs(ARGV) do n[i + 1] = #redis.call('KEYS', pattern) end
return n`
	counting := peerClient(s.Addr) // waits for as long as it takes
	defer counting.Close()
	n, err := counting.Eval(ctx, count, nil, resultPrefix+"*", sessionPrefix+"*", "redis-janitor:*").Int64Slice()
	if err != nil {
		return contents{}, fmt.Errorf("count what is left: %w", err)
	}
	return contents{Keys: n[0] - n[3], Results: n[1], Sessions: n[2]}, nil
}
