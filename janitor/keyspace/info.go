package keyspace

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Info is a server's answer to INFO. Services leave fields out: each is asked for with whether it
// is there.
type Info struct {
	fields map[string]string
}

// ParseInfo reads the text of INFO. Lines that it cannot read are left out, so what is missing or
// garbled is unknown rather than zero.
func ParseInfo(text string) Info {
	info := Info{fields: make(map[string]string, 192)}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if name, value, ok := strings.Cut(line, ":"); ok && name != "" {
			info.fields[name] = plain(value)
		}
	}
	return info
}

// Text returns a field, or "" where the server does not give it.
func (i Info) Text(name string) string { return i.fields[name] }

// Int returns a whole number; false where the server does not give it, or gives something else.
func (i Info) Int(name string) (int64, bool) {
	n, err := strconv.ParseInt(i.fields[name], 10, 64)
	if err != nil {
		return 0, false
	}
	return n, true
}

// Float returns a number; false where the server does not give it, or gives something else.
func (i Info) Float(name string) (float64, bool) {
	n, err := strconv.ParseFloat(i.fields[name], 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, false
	}
	return n, true
}

// Keys returns how many keys a database has, and how many of them have a TTL. A database without
// keys is not listed by Redis, so 0 where nothing is said of it.
func (i Info) Keys(db int) (keys, expires int64) {
	for part := range strings.SplitSeq(i.fields["db"+strconv.Itoa(db)], ",") {
		name, value, _ := strings.Cut(part, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			continue
		}
		switch name {
		case "keys":
			keys = n
		case "expires":
			expires = n
		}
	}
	return keys, expires
}

// Server names the software and its version: "redis 7.0.15", "valkey 8.0.1".
func (i Info) Server() string {
	// Valkey and others keep redis_version for the clients' sake and give their own beside it.
	for _, name := range []string{"valkey", "keydb", "dragonfly", "garnet"} {
		if version := i.fields[name+"_version"]; version != "" {
			return name + " " + version
		}
	}
	if version := i.fields["redis_version"]; version != "" {
		return "redis " + version
	}
	return "unknown"
}

// UsedMemory is what the server itself compares with maxmemory, in bytes: used_memory less what it
// does not count for eviction (replication and AOF buffers; evict.c, freeMemoryGetNotCountedMemory).
func (i Info) UsedMemory() (int64, bool) {
	used, ok := i.Int("used_memory")
	if !ok || used < 0 {
		return 0, false
	}
	uncounted, _ := i.Int("mem_not_counted_for_evict")
	return used - min(max(uncounted, 0), used), true
}

// Ready is an *Error while the server still loads its data: it answers INFO then, but tells neither its
// memory nor its keys as they will be.
func (i Info) Ready(addr string) error {
	if i.fields["loading"] != "1" {
		return nil
	}
	return &Error{Op: "read INFO", Addr: addr, Kind: Loading, Hint: hint(Loading), Err: errors.New("LOADING Redis is loading the dataset in memory")}
}

// Replica tells whether the server follows another one.
func (i Info) Replica() bool { return i.fields["role"] == "slave" }

// Clustered tells whether the server runs in cluster mode.
func (i Info) Clustered() bool {
	return i.fields["cluster_enabled"] == "1" || i.fields["redis_mode"] == "cluster"
}

// Forking names a child process that shares the server's memory by copy-on-write, "" for none.
func (i Info) Forking() string {
	switch {
	case i.fields["rdb_bgsave_in_progress"] == "1":
		return "BGSAVE"
	case i.fields["aof_rewrite_in_progress"] == "1":
		return "AOF rewrite"
	}
	return ""
}

// PendingFrees counts values that were unlinked and wait to be freed in the background.
func (i Info) PendingFrees() int64 {
	n, _ := i.Int("lazyfree_pending_objects")
	return max(n, 0)
}

// StaleShare is what share of a database's keys has expired and is still counted, as the server estimates
// by what its active expiry meets; 0 where it doesn't.
func (i Info) StaleShare(db int) float64 {
	percent, _ := i.Float("expired_stale_perc")
	keys, expires := i.Keys(db)
	if keys == 0 {
		return 0
	}
	return min(max(percent/100*float64(expires)/float64(keys), 0), 1)
}

// TellsIdleTimes is false where the eviction policy keeps frequencies in the place of idle times
// (LFU), so that OBJECT IDLETIME is an error.
func (i Info) TellsIdleTimes() bool {
	return !strings.Contains(i.fields["maxmemory_policy"], "lfu")
}
