// Package embedded is a Redis inside this process, for the demo and for fast tests: miniredis,
// listening on a free loopback port, and able to tell its memory.
package embedded

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// Server is an embedded Redis. Its clock stands still until Advance moves it, so that TTLs, and all
// that is decided by them, are the same in every run.
type Server struct {
	mini  *miniredis.Miniredis
	began time.Time

	mu    sync.Mutex
	now   time.Time
	calls map[string]int64
}

// NewServer starts an empty server whose clock shows now.
func NewServer(now time.Time) (*Server, error) {
	s := &Server{mini: miniredis.NewMiniRedis(), began: now, now: now, calls: map[string]int64{}}
	if err := s.mini.Start(); err != nil {
		return nil, fmt.Errorf("start the embedded Redis on a free loopback port: %w", err)
	}
	s.mini.Seed(1) // RANDOMKEY, too, draws alike in every run
	s.mini.SetTime(now)
	s.mini.ClockTTL(true)
	s.mini.Server().SetPreHook(s.answer)
	return s, nil
}

// URL is where the server listens, for a client.
func (s *Server) URL() string { return "redis://" + s.mini.Addr() + "/0" }

// Miniredis gives direct access, for filling it and for looking at what is left.
func (s *Server) Miniredis() *miniredis.Miniredis { return s.mini }

// Close ends the server and every connection to it.
func (s *Server) Close() { s.mini.Close() }

// Now is the time on the server's clock.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Advance moves the clock on: TTLs run down by d, and keys whose time has come expire.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
	s.mini.SetTime(s.now)
	s.mini.DB(0) // touching any database makes all of them follow the clock
}

// Calls counts the commands that came in so far, by their name in upper case, those from scripts
// too.
func (s *Server) Calls() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// answer stands before miniredis' own commands: it counts them, and answers those that miniredis
// has no answer for, or not Redis'.
func (s *Server) answer(c *server.Peer, cmd string, args ...string) bool {
	if c.ClientName == itself {
		return false
	}
	s.mu.Lock()
	s.calls[cmd]++
	s.mu.Unlock()
	switch cmd {
	case "INFO":
		return s.info(c, args)
	case "MEMORY":
		return s.memory(c, args)
	}
	return false
}

// Entry is one stored key.
type Entry struct {
	Type  string
	Value string        // what is stored, written out; comparable between keys of one type
	TTL   time.Duration // 0: none
}

// Entries is everything that database 0 holds.
func (s *Server) Entries() (map[string]Entry, error) {
	db := s.mini.DB(0)
	entries := map[string]Entry{}
	for _, key := range db.Keys() {
		entry := Entry{Type: db.Type(key), TTL: db.TTL(key)}
		var value any
		var err error
		switch entry.Type {
		case "string":
			value, err = db.Get(key)
		case "list":
			value, err = db.List(key)
		case "set":
			value, err = db.Members(key)
		case "zset":
			value, err = db.SortedSet(key)
		case "hash":
			fields, keysErr := db.HKeys(key)
			pairs := make(map[string]string, len(fields))
			for _, field := range fields {
				pairs[field] = db.HGet(key, field)
			}
			value, err = pairs, keysErr
		default:
			err = fmt.Errorf("a type this server is not used with: %s", entry.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("read key %q of the embedded Redis: %w", key, err)
		}
		entry.Value = fmt.Sprint(value) // which writes maps in the order of their keys
		entries[key] = entry
	}
	return entries, nil
}
