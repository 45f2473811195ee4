package main

import (
	"context"
	"strings"
	"testing"

	"redis-janitor/janitor/redistest"
)

func prepared(t *testing.T) *bench {
	t.Helper()
	b, err := prepare(t.Context(), options{keys: 5000, rounds: 1}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.close() })
	return b
}

func TestEveryWayClearsTheSameKeys(t *testing.T) {
	b, s := prepared(t), testServer(t)
	held, err := b.fill(t.Context(), s, b.keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			run, err := b.clear(t.Context(), s, held, w, "", w.name == floorWay)
			if err != nil {
				t.Fatal(err)
			}
			if run.Wall <= 0 || run.PeakRSS < 1<<20 || run.ServerCPU < 0 {
				t.Errorf("it took %+v, which cannot be", run.usage)
			}
			for name := range redistest.Snapshot(t.Context(), s.client) {
				if strings.HasPrefix(name, resultPrefix) {
					t.Errorf("%s is still there", name)
				}
			}
		})
	}
}

func TestAWayThatClearsOtherKeysIsAnError(t *testing.T) {
	b, s := prepared(t), testServer(t)
	held, err := b.fill(t.Context(), s, b.keys)
	if err != nil {
		t.Fatal(err)
	}
	idle := way{name: "idle", command: func(*bench, string) []string { return []string{"true"} }, clears: contents.due}
	if _, err := b.clear(t.Context(), s, held, idle, "", false); err == nil || !strings.Contains(err.Error(), "0 keys are gone") {
		t.Errorf("got %v, want an error that says how many keys are gone", err)
	}
	broken := way{name: "broken", command: func(*bench, string) []string { return []string{"sh", "-c", "echo why >&2; exit 3"} }, clears: contents.due}
	if _, err := b.clear(t.Context(), s, held, broken, "", false); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("got %v, want an error with what the command wrote", err)
	}
}

func TestAsManyKeysOfAnotherFamilyAreAnError(t *testing.T) {
	held := contents{Keys: 100, Results: 50, Sessions: 30, OldSessions: 10}
	w := way{name: "both", clears: contents.due}
	if err := w.check(held, contents{Keys: 40, Sessions: 20}); err != nil {
		t.Errorf("what is due was cleared: %v", err)
	}
	for _, left := range []contents{{Keys: 40, Results: 1, Sessions: 19}, {Keys: 40, Sessions: 21}, {Keys: 39, Sessions: 20}} {
		if err := w.check(held, left); err == nil {
			t.Errorf("%+v are left, and nothing is said", left)
		}
	}
}

func TestWaysAreChosenByName(t *testing.T) {
	chosen, err := chosenWays("floor, fast")
	if err != nil || len(chosen) != 2 || chosen[0].name != "fast" || chosen[1].name != "floor" {
		t.Errorf("chose %v, %v; want fast and floor in the tables' order", chosen, err)
	}
	if all, err := chosenWays(""); err != nil || len(all) != len(ways()) {
		t.Errorf("no names chose %d ways, %v", len(all), err)
	}
	if _, err := chosenWays("fast,slow"); err == nil {
		t.Error("an unknown way was taken")
	}
	if _, err := chosenScenarios("clear,nothing"); err == nil {
		t.Error("an unknown scenario was taken")
	}
}

func TestTheDelayingProxyDelaysAndChangesNothing(t *testing.T) {
	s := testServer(t)
	const trip = farTrip * 30
	p, err := startProxy(context.Background(), s.Addr, trip)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	held, err := fillCombot(t.Context(), p.addr, 3000)
	if err != nil {
		t.Fatal(err)
	}
	through := redistest.Snapshot(t.Context(), s.client)
	if int64(len(through)) != held.Keys {
		t.Errorf("%d keys came through, want %d", len(through), held.Keys)
	}
	c := peerClient(p.addr)
	defer c.Close()
	for range 3 {
		if took := elapsed(func() { c.Ping(t.Context()) }); took < trip {
			t.Errorf("a round trip took %s, want at least %s", took, trip)
		}
	}
}
