package keyspace

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/redistest"
)

// options are what a test connects with: short timeouts, so that nothing that fails is waited for long.
func options(url string, mode Mode) Options {
	return Options{URLs: []string{url}, ConnectTimeout: 5 * time.Second, CommandTimeout: 5 * time.Second, Mode: mode, Workers: 2}
}

// open connects to a server in a mode and returns its only node.
func open(t testing.TB, o Options) *Node {
	t.Helper()
	space, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("opening %v: %v", o.URLs, err)
	}
	t.Cleanup(func() {
		if err := space.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return space.Nodes()[0]
}

func evicting(t testing.TB, s *redistest.Server) *Node {
	t.Helper()
	return open(t, options(s.URL(), Evicting))
}

// do runs commands that must succeed.
func do(t testing.TB, c *redis.Client, commands ...[]any) {
	t.Helper()
	for _, command := range commands {
		if err := c.Do(context.Background(), command...).Err(); err != nil {
			t.Fatalf("%v: %v", command, err)
		}
	}
}

func cmd(words ...any) []any { return words }

// refused fails the test unless err is an *Error of that kind that says what to do next.
func refused(t testing.TB, err error, kind Kind) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error of kind %s", err, kind)
	}
	if e.Kind != kind {
		t.Fatalf("got kind %s, want %s: %v", e.Kind, kind, err)
	}
	return e
}
