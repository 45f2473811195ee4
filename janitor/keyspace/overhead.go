package keyspace

import (
	"math/bits"
	"strconv"
	"strings"
)

// Overhead is what freeing a key gives back beyond its MEMORY USAGE, in bytes: perKey for each key
// and perExpire more for each that has a TTL.
//
// MEMORY USAGE leaves out the key's entry in the expires table, and counts every entry with its
// size (24 bytes, dict.c) rather than with what the allocator gives for it. The jemalloc that comes
// with Redis and Valkey is built for steps of 8 bytes and gives 24; a distribution's has steps of
// 16 and gives 32. Then the elements of hashes, sets and sorted sets that are kept as tables are
// understated by 8 bytes each as well, which is not in these figures. Redis 8.2 and Valkey 8.1 keep
// key and TTL in the value's own allocation.
//
// Measured: Redis 7.0.15 of Debian (8, 32); 6.2.16, 7.2.6, 7.4.1, 8.0's development and Valkey 8.0.1
// as they build by default (0, 24). From their sources: Redis 8.2, Valkey 8.1. A distribution's
// Redis 7.2 or later cannot be told from another and is understated by 8 bytes a key and a TTL.
func (i Info) Overhead() (perKey, perExpire float64) {
	name, major, minor := i.version()
	switch {
	case name != "redis" && name != "valkey", i.keepsKeysInValues():
		return 0, 0
	case strings.HasPrefix(i.Text("mem_allocator"), "jemalloc-") && i.Text("mem_allocator") != ownAllocator(major, minor):
		return 8, 32
	}
	return 0, 24
}

// ownAllocator is the jemalloc that a version brings along (deps/jemalloc/VERSION).
func ownAllocator(major, minor int) string {
	switch {
	case major < 7:
		return "jemalloc-5.1.0"
	case major == 7 && minor < 2:
		return "jemalloc-5.2.1"
	}
	return "jemalloc-5.3.0"
}

// FreedTables is what the hash tables of a database give back of themselves when so many of its
// keys go, expires of them with a TTL: nothing, until a table is nearly empty and shrinks. That
// takes the server some seconds for millions of keys, and waits while a child process runs. The
// tables are taken to be as large as their present keys make them; after a larger past they are
// larger.
func (i Info) FreedTables(db int, keys, expires int64) int64 {
	if name, _, _ := i.version(); name != "redis" && name != "valkey" || i.keepsKeysInValues() {
		return 0
	}
	hadKeys, hadExpires := i.Keys(db)
	return i.shrinksBy(hadKeys, hadKeys-keys) + i.shrinksBy(hadExpires, hadExpires-expires)
}

// shrinksBy is by how many bytes a table shrinks from one number of entries to another.
func (i Info) shrinksBy(before, after int64) int64 {
	size, after := buckets(before), max(after, 0)
	_, major, minor := i.version()
	shrinks := after*8 <= size // dict.c, dictShrinkIfNeeded, from 7.4 on
	if major < 7 || major == 7 && minor < 4 {
		shrinks = after*100/size < 10 // server.c, htNeedsResize
	}
	if !shrinks {
		return 0
	}
	const pointer = 8
	return pointer * (size - buckets(after))
}

// buckets is the size of a table that has grown to so many entries: the next power of two (dict.c,
// _dictNextExp).
func buckets(entries int64) int64 {
	const fewest, beyondAnyMemory = 4, 1 << 40
	return 1 << bits.Len64(uint64(min(max(entries, fewest), beyondAnyMemory)-1))
}

// keepsKeysInValues is true where a key has no entry of its own in the tables.
func (i Info) keepsKeysInValues() bool {
	name, major, minor := i.version()
	return major > 8 || major == 8 && (minor >= 2 || name == "valkey" && minor >= 1)
}

// version takes Server apart; numbers that cannot be read are 0.
func (i Info) version() (name string, major, minor int) {
	name, number, _ := strings.Cut(i.Server(), " ")
	parts := strings.SplitN(number, ".", 3)
	major, _ = strconv.Atoi(parts[0])
	if len(parts) > 1 {
		minor, _ = strconv.Atoi(parts[1])
	}
	return name, major, minor
}
