package main

import (
	"testing"
	"time"

	"redis-janitor/janitor/keyspace"
)

func TestOnlyWhatTheJanitorSentToWalkAndDeleteCountsAsHeld(t *testing.T) {
	b, s := prepared(t), testServer(t)
	if _, err := b.fill(t.Context(), s, b.keys); err != nil {
		t.Fatal(err)
	}
	if err := s.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.client.ConfigSet(t.Context(), "slowlog-log-slower-than", "0") // all of them
	s.client.Scan(t.Context(), 0, "", 10)                           // not the janitor's
	gentle, err := chosenWays("gentle")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := measured(t.Context(), gentle[0].command(b, s.Addr)...); err != nil {
		t.Fatal(err)
	}
	h, err := s.heldBy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A script's own commands are in the slow log too, and in its time already.
	if h.commands < 100 || int64(len(h.long)) != h.commands-1 {
		t.Errorf("the slow log has %d of the %d commands, want all but the one that another client sent", len(h.long), h.commands)
	}
}

func TestTheShareOfLongCommandsIsOfAll(t *testing.T) {
	h := holding{commands: 200, long: []time.Duration{time.Millisecond, 2 * time.Millisecond}}
	if got := h.share(time.Millisecond); got != "0.50 % (1 of 200)" {
		t.Errorf("got %s", got)
	}
	if got := (holding{}).share(time.Millisecond); got != "0.00 % (0 of 0)" {
		t.Errorf("of none: %s", got)
	}
}

func TestWhatACommandTookIsReadFromCommandstats(t *testing.T) {
	info := keyspace.ParseInfo("# Commandstats\r\ncmdstat_memory|usage:calls=4,usec=10,usec_per_call=2.50,rejected_calls=0,failed_calls=0\r\ncmdstat_ping:calls=x\r\n")
	got, err := spentOn(info, "memory|usage")
	if err != nil || got.calls != 4 || got.perCall() != 2.5 {
		t.Errorf("%+v, %f µs a call, %v; want 4 calls of 2.5 µs", got, got.perCall(), err)
	}
	if got, err := spentOn(info, "scan"); err != nil || got != (spent{}) || got.perCall() != 0 {
		t.Errorf("a command that never ran: %+v, %v", got, err)
	}
	if _, err := spentOn(info, "ping"); err == nil {
		t.Error("what is no number was read")
	}
}
