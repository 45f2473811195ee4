package main

import (
	"maps"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor/redistest"
)

func TestTheKeyspaceIsWhatItSaysAndTheSameEachTime(t *testing.T) {
	const n = 20_000
	s := testServer(t)
	held, err := fillCombot(t.Context(), s.Addr, n)
	if err != nil {
		t.Fatal(err)
	}
	keys := redistest.Snapshot(t.Context(), s.client)
	if int64(len(keys)) != held.Keys || held.Keys != n+othersKeys {
		t.Errorf("there are %d keys, %d are said to be, want %d", len(keys), held.Keys, n+othersKeys)
	}
	var counted contents
	now := time.Now()
	for name, key := range keys {
		left := time.UnixMilli(key.ExpiresAt).Sub(now)
		switch {
		case strings.HasPrefix(name, resultPrefix):
			counted.Results++
		case strings.HasPrefix(name, sessionPrefix):
			counted.Sessions++
			if key.ExpiresAt < 0 {
				break
			}
			if left < maxSessionTTL {
				counted.OldSessions++
			}
			if d := left - maxSessionTTL; d < 90*time.Minute && d > -90*time.Minute {
				t.Errorf("a session has %s left, too close to %s for rounds that are an hour apart", left, maxSessionTTL)
			}
			if left > sessionLifetime {
				t.Errorf("a session has %s left, more than its lifetime", left)
			}
		}
		if key.ExpiresAt > 0 && left < 3*time.Hour {
			t.Errorf("%s has only %s left and might end while the benchmark runs", name, left)
		}
	}
	counted.Keys = held.Keys
	if counted != held {
		t.Errorf("it holds %+v and is said to hold %+v", counted, held)
	}
	if share := float64(held.Results) / n; share < 0.53 || share > 0.57 {
		t.Errorf("%.0f %% are results, want 55", 100*share)
	}
	if share := float64(held.Sessions) / n; share < 0.23 || share > 0.27 {
		t.Errorf("%.0f %% are sessions, want 25", 100*share)
	}

	s.client.FlushAll(t.Context())
	if _, err := fillCombot(t.Context(), s.Addr, n); err != nil {
		t.Fatal(err)
	}
	again := redistest.Snapshot(t.Context(), s.client)
	same := maps.EqualFunc(keys, again, func(a, b redistest.Key) bool { return a.Type == b.Type && a.Digest == b.Digest })
	if !same {
		t.Error("the second filling differs from the first")
	}
}

func TestARefusedCommandOfTheLoadIsAnError(t *testing.T) {
	s := testServer(t)
	s.client.Set(t.Context(), "text", "x", 0)
	b, err := dialBulk(t.Context(), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"SET", "a", "1"}, {"INCR", "text"}, {"SET", "b", "2"}} {
		b.command(len(words))
		for _, w := range words {
			b.text(w)
		}
	}
	if err := b.close(t.Context()); err == nil || !strings.Contains(err.Error(), "not an integer") {
		t.Errorf("got %v, want the server's complaint", err)
	}
}
