// Package probe measures memory: the server's own count, its resident set, the host's or a
// cgroup's, against a limit.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// Sources of a reading.
const (
	Redis  = "redis"  // used_memory less what the server does not count for eviction
	RSS    = "rss"    // the server's resident set
	Host   = "host"   // all that is in use on this machine
	Cgroup = "cgroup" // what this process's control group uses, less reclaimable file pages
)

// Limit is the memory that a ratio is taken of: Bytes, or where From is "maxmemory" or "system",
// what the server says.
type Limit struct {
	Bytes int64
	From  string
}

// Reading is one node's memory at one moment, in bytes.
type Reading struct {
	Source string
	Used   int64 // by the source
	Limit  int64
	// Counted is what the server itself compares with maxmemory. It falls as keys go, which RSS and
	// the host's memory often don't, so it is what an eviction is steered by, whatever the source.
	Counted       int64
	RSS           int64
	Allocated     int64 // used_memory: what the server has of its allocator, all in all
	allocatorIdle int64 // what the allocator has of the system and gave to nobody
	MaxMemory     int64 // 0: none, or not told
	Fragmentation float64
}

// Ratio is the share of the limit that is in use.
func (r Reading) Ratio() float64 {
	if r.Limit <= 0 {
		return 0
	}
	return float64(r.Used) / float64(r.Limit)
}

// Idle is what the source counts as used and the server's allocator holds free already, as far as can be told: deleting
// makes it more, and the resident set no smaller.
func (r Reading) Idle() int64 {
	if r.Source == Redis {
		return 0
	}
	return r.allocatorIdle
}

// Machine reads the memory of the machine that the janitor runs on.
type Machine interface {
	HostUsed(ctx context.Context) (int64, error)
	CgroupUsed() (int64, error)
}

// ErrLimit reports a limit that this server cannot tell.
var ErrLimit = errors.New("the memory limit is not known")

// Read takes a reading from what INFO said and, for the sources host and cgroup, from the machine.
func Read(ctx context.Context, info keyspace.Info, source string, limit Limit, machine Machine) (Reading, error) {
	r := Reading{Source: source, Limit: limit.Bytes}
	r.RSS, _ = info.Int("used_memory_rss")
	r.Allocated, _ = info.Int("used_memory")
	r.allocatorIdle = max(r.RSS-r.Allocated, 0)
	if resident, ok := info.Int("allocator_resident"); ok { // since Redis 4; without the program's own code and data
		r.allocatorIdle = max(resident-r.Allocated, 0) // allocator_allocated is up to 100 ms old (server.c, cronUpdateMemoryStats)
	}
	r.MaxMemory, _ = info.Int("maxmemory")
	r.Fragmentation, _ = info.Float("mem_fragmentation_ratio")
	counted, ok := info.UsedMemory()
	if !ok {
		return r, errors.New("INFO does not tell used_memory, so nothing can be steered by it")
	}
	r.Counted = counted

	var err error
	switch source {
	case Redis:
		r.Used = counted
	case RSS:
		if r.Used = r.RSS; r.Used == 0 {
			return r, errors.New("INFO does not tell used_memory_rss; use memory source redis")
		}
	case Host:
		r.Used, err = machine.HostUsed(ctx)
	case Cgroup:
		r.Used, err = machine.CgroupUsed()
	default:
		return r, fmt.Errorf("memory source %q is unknown", source)
	}
	if err != nil {
		return r, fmt.Errorf("read memory from source %s: %w", source, err)
	}

	switch limit.From {
	case "maxmemory":
		if r.Limit = r.MaxMemory; r.Limit <= 0 {
			return r, fmt.Errorf("%w: it is to be the server's maxmemory, which is not set or not told; give a size with --memory-limit", ErrLimit)
		}
	case "system":
		if r.Limit, _ = info.Int("total_system_memory"); r.Limit <= 0 {
			return r, fmt.Errorf("%w: it is to be the system's memory, which INFO does not tell; give a size with --memory-limit", ErrLimit)
		}
	}
	return r, nil
}

// Elsewhere tells whether a reading is of the machine it was taken on while the server at addr, HOST:PORT
// or the path of a socket, need not run there.
func (r Reading) Elsewhere(addr string) bool {
	if r.Source != Host && r.Source != Cgroup {
		return false
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false // a socket's path
	}
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// Unreachable lists the levels that memory can never come to, because the server's own maxmemory
// lies below their threshold.
func (r Reading) Unreachable(t ttlpolicy.Thresholds) []ttlpolicy.Level {
	if r.MaxMemory <= 0 || r.Source != Redis {
		return nil
	}
	var levels []ttlpolicy.Level
	for _, level := range ttlpolicy.Levels() {
		if float64(r.MaxMemory) < t.Of(level)*float64(r.Limit) {
			levels = append(levels, level)
		}
	}
	return levels
}
