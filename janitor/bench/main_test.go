package main

import (
	"context"
	"os"
	"testing"
	"time"
)

// TestMain lets the test binary play its own children, as the benchmark's does.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childFlag {
		os.Exit(playPart(context.Background(), os.Args[2:], os.Stderr))
	}
	os.Exit(m.Run())
}

// testServer starts a server as the benchmark does, and ends it with the test.
func testServer(t *testing.T) *server {
	t.Helper()
	s := startServer()
	t.Cleanup(s.close)
	return s
}

func elapsed(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}
