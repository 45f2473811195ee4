package main

import (
	"bufio"
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAStallIsSeenByEveryRequestThatWasDueInIt(t *testing.T) {
	s := testServer(t)
	if _, err := fillCombot(t.Context(), s.Addr, 0); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	type result struct {
		seen []request
		err  error
	}
	done := make(chan result, 1)
	go func() {
		seen, err := makeRequests(t.Context(), s.Addr, ended)
		done <- result{seen, err}
	}()
	awaitRequests(t, s, 10)
	s.Pause()
	pause(100 * time.Millisecond) // the signal takes its time
	from := time.Now()
	pause(300 * time.Millisecond) // how long the stall lasts
	until := time.Now()
	s.Resume()
	awaitRequests(t, s, 400) // those of the stall and some after it
	close(ended)
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	stalled := between(r.seen, from, until)
	if want := int(until.Sub(from).Seconds()*rate) - 1; len(stalled) < want {
		t.Errorf("%d requests were due in the stall, want at least %d: the client waited for replies", len(stalled), want)
	}
	for i, q := range r.seen {
		if i > 0 && q.Intended-r.seen[i-1].Intended != int64(time.Second/rate) {
			t.Fatalf("request %d was due %s after the one before", i, time.Duration(q.Intended-r.seen[i-1].Intended))
		}
		if q.Intended >= from.UnixNano() && q.Intended < until.UnixNano() && q.Intended+q.Latency < until.UnixNano() {
			t.Fatalf("a request due %s into the stall was answered after %s, while the server stood still",
				time.Duration(q.Intended-from.UnixNano()), time.Duration(q.Latency))
		}
	}
}

// awaitRequests waits until the server has run so many GETs.
func awaitRequests(t *testing.T, s *server, n int64) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for s.CommandStats(t.Context())["get"] < n {
		if time.Now().After(deadline) {
			t.Fatalf("fewer than %d GETs within 30 s", n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestOnlyRequestsOfTheSpanCount(t *testing.T) {
	at := func(ns int64) time.Time { return time.Unix(0, ns) }
	all := []request{{9, 1}, {10, 2}, {19, 3}, {20, 4}}
	if got := between(all, at(10), at(20)); !slices.Equal(got, []time.Duration{2, 3}) {
		t.Errorf("between 10 and 20: %v, want those intended at 10 and 19", got)
	}
}

func TestAReplyOfAnotherKindIsAnError(t *testing.T) {
	for reply, good := range map[string]bool{
		"+OK\r\n": true, "$3\r\nabc\r\n": true, "$0\r\n\r\n": true,
		"$-1\r\n": false, "-LOADING later\r\n": false, ":1\r\n": false, "$3\r\nab": false, "": false,
	} {
		if err := skipReply(bufio.NewReader(strings.NewReader(reply))); (err == nil) != good {
			t.Errorf("%q: %v", reply, err)
		}
	}
}

func TestALoadThatIsGivenUpEnds(t *testing.T) {
	s := testServer(t)
	if _, err := fillCombot(t.Context(), s.Addr, 0); err != nil {
		t.Fatal(err)
	}
	l, err := startLoad(context.Background(), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	l.abandon()
	if l.cmd.ProcessState == nil {
		t.Error("the foreground client still runs")
	}
}
