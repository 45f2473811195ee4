package embedded

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// What Redis keeps besides a value, in bytes. Like Redis', the model's MEMORY USAGE leaves the
// bucket arrays and the expires entry out, and its used_memory has them (object.c, dict.h).
const (
	perKey    = 24 + 16 // the dictionary's entry; headers and rounding of the key and its value
	perBucket = 8       // a pointer in the keyspace's bucket array
	perExpiry = 24 + 8  // the entry in the expires table, and its bucket
)

// databases is how many databases a Redis has unless it is configured otherwise.
const databases = 16

// usage is the model's MEMORY USAGE of a key, of whose value miniredis says that it takes so many bytes.
func usage(key string, value int64) int64 { return value + int64(len(key)) + perKey }

// StringBytes is what storing a string adds to used_memory.
func StringBytes(key, value string, ttl time.Duration) int64 {
	const header = 16 // that miniredis counts for a Go string
	bytes := usage(key, int64(len(value))+header) + perBucket
	if ttl > 0 {
		bytes += perExpiry
	}
	return bytes
}

// UsedMemory sums up what all stored keys take.
func (s *Server) UsedMemory() (int64, error) {
	totals, err := s.totals()
	var used int64
	for _, t := range totals {
		used += t.bytes
	}
	return used, err
}

// total is what one database holds.
type total struct {
	db                   int64
	keys, expires, bytes int64
}

// totals asks miniredis for everything it stores, on a connection of its own. That is a pass over
// all keys, but nothing is remembered that a write on another connection could have made wrong.
func (s *Server) totals() ([]total, error) {
	own := s.inside(nil)
	var totals []total
	for db := range int64(databases) {
		if _, err := own.ask("SELECT", strconv.FormatInt(db, 10)); err != nil {
			return nil, err
		}
		page, err := own.ask("SCAN", "0") // miniredis has only one page
		if err != nil {
			return nil, err
		}
		t := total{db: db}
		for _, key := range keysOf(page) {
			value, bytesErr := own.number("MEMORY", "USAGE", key)
			ttl, ttlErr := own.number("PTTL", key)
			if bytesErr != nil || ttlErr != nil {
				continue // another connection has just deleted it
			}
			t.keys++
			t.bytes += usage(key, value) + perBucket
			if ttl >= 0 {
				t.expires++
				t.bytes += perExpiry
			}
		}
		if t.keys > 0 {
			totals = append(totals, t)
		}
	}
	return totals, nil
}

func keysOf(page any) []string {
	fields, _ := page.([]any)
	if len(fields) != 2 {
		return nil
	}
	listed, _ := fields[1].([]any)
	keys := make([]string, 0, len(listed))
	for _, key := range listed {
		if name, ok := key.(string); ok {
			keys = append(keys, name)
		}
	}
	return keys
}

// info answers INFO, whatever the sections asked for, but for the one that scripts ask for: they hold miniredis' lock, and
// nothing can be counted meanwhile.
func (s *Server) info(c *server.Peer, sections []string) bool {
	if len(sections) == 1 && strings.EqualFold(sections[0], "replication") {
		c.WriteBulk("# Replication\r\nrole:master\r\n")
		return true
	}
	totals, err := s.totals()
	if err != nil {
		c.WriteError(err.Error())
		return true
	}
	var text strings.Builder
	var used int64
	for _, t := range totals {
		used += t.bytes
	}
	field := func(name string, value any) { fmt.Fprintf(&text, "%s:%v\r\n", name, value) }
	section := func(name string) { fmt.Fprintf(&text, "# %s\r\n", name) }
	section("Server")
	field("redis_version", Version)
	field("redis_mode", "standalone")
	field("run_id", s.runID())
	section("Clients")
	field("connected_clients", s.mini.Server().ClientsLen())
	section("Memory")
	// No used_memory_rss: the process's resident set is mostly not the embedded server's.
	field("used_memory", used)
	field("maxmemory", 0)
	field("maxmemory_policy", "noeviction")
	field("lazyfree_pending_objects", 0)
	section("Persistence")
	field("loading", 0)
	field("rdb_bgsave_in_progress", 0)
	field("aof_rewrite_in_progress", 0)
	section("Replication")
	field("role", "master")
	section("Cluster")
	field("cluster_enabled", 0)
	section("Keyspace")
	for _, t := range totals {
		field(fmt.Sprintf("db%d", t.db), fmt.Sprintf("keys=%d,expires=%d,avg_ttl=0", t.keys, t.expires))
	}
	c.WriteBulk(text.String())
	return true
}

// Version is what INFO gives as redis_version, so that nobody takes the server for a real one.
const Version = "embedded (miniredis)"

// runID tells two servers apart, as Redis' does: 40 hexadecimal digits.
func (s *Server) runID() string {
	return fmt.Sprintf("%020x%020x", s.began.UnixNano(), s.mini.Server().Addr().Port)
}

// memory answers MEMORY USAGE by the same model as INFO, for clients and for scripts.
func (s *Server) memory(c *server.Peer, args []string) bool {
	if len(args) < 2 || !strings.EqualFold(args[0], "usage") {
		return false
	}
	// SAMPLES changes nothing: every element is counted.
	answer, err := s.inside(c).ask("MEMORY", "USAGE", args[1])
	switch value, exists := answer.(int); {
	case err != nil:
		c.WriteError(err.Error())
	case exists:
		c.WriteInt(int(usage(args[1], int64(value))))
	default:
		c.WriteNull()
	}
	return true
}

// itself names the server's own connections: a name with spaces is one that no client can take.
const itself = "the server itself"

// inside is a connection from the server to miniredis.
type inside struct {
	srv   *server.Server
	peer  *server.Peer
	reply bytes.Buffer
	write *bufio.Writer
	read  *bufio.Reader
}

// inside connects, where caller is given with its database and, if it is a script, under the lock
// that the script holds.
func (s *Server) inside(caller *server.Peer) *inside {
	own := &inside{srv: s.mini.Server()}
	own.write = bufio.NewWriterSize(&own.reply, 256)
	own.read = bufio.NewReaderSize(&own.reply, 256)
	own.peer = server.NewPeer(own.write)
	own.peer.ClientName = itself
	if caller != nil {
		own.peer.Ctx = caller.Ctx
	}
	return own
}

func (i *inside) ask(args ...string) (any, error) {
	i.reply.Reset()
	i.read.Reset(&i.reply)
	i.srv.Dispatch(i.peer, args)
	i.peer.Flush()
	return server.ParseReply(i.read)
}

func (i *inside) number(args ...string) (int64, error) {
	answer, err := i.ask(args...)
	if err != nil {
		return 0, err
	}
	n, ok := answer.(int)
	if !ok {
		return 0, fmt.Errorf("%s answered no number", args[0])
	}
	return int64(n), nil
}
