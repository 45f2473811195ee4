package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func testPlayer(t *testing.T, history []event) *player {
	t.Helper()
	p, err := newPlayer(t.Context(), time.Now(), history)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.server.close)
	return p
}

func (p *player) mustDo(t *testing.T, what action, number uint32) {
	t.Helper()
	if err := p.do(t.Context(), event{time.Since(p.zero), what, number}); err != nil {
		t.Fatal(err)
	}
}

func TestASessionIsLostWhenItsUserComesBackBeforeItsEnd(t *testing.T) {
	old := subject{useSession, 1}
	p := testPlayer(t, []event{{-10 * minute, saveSession, 1}, {-10 * minute, saveSession, 2}})
	p.mustDo(t, useSession, 1)
	p.mustDo(t, useSession, 3) // a new user
	if p.lost != 0 {
		t.Fatalf("%d sessions count as lost, and nobody took any", p.lost)
	}
	p.client.Del(t.Context(), old.name(), subject{useSession, 2}.name(), subject{useSession, 3}.name())
	p.mustDo(t, useSession, 1)
	p.mustDo(t, useSession, 3)
	if p.lost != 2 {
		t.Errorf("%d sessions count as lost, want those of the two users who came back", p.lost)
	}
	p.mustDo(t, useSession, 1)
	if p.lost != 2 {
		t.Error("a user who has logged in again counts as lost a second time")
	}
	p.client.Del(t.Context(), old.name())
	p.sessions[old] = time.Since(p.zero) // its end has come
	p.mustDo(t, useSession, 1)
	if p.lost != 2 {
		t.Error("a session that had come to its end counts as lost")
	}
}

func TestHistoryComesWithItsExpiryAndIdleTimes(t *testing.T) {
	p := testPlayer(t, []event{{-100 * minute, useResult, 1}, {-7 * minute, useResult, 1}})
	name := subject{useResult, 1}.name()
	ttl, idle := p.client.PTTL(t.Context(), name).Val(), p.client.ObjectIdleTime(t.Context(), name).Val()
	if ttl > 20*minute || ttl < 1*minute {
		t.Errorf("%s are left, want up to %s", ttl, 20*minute)
	}
	if idle < 7*minute || idle > 27*minute {
		t.Errorf("idle for %s, want %s and what has passed since", idle, 7*minute)
	}
	if lost, err := p.othersLost(t.Context()); lost != 0 || err != nil {
		t.Errorf("%d of the others' keys are missing at the start: %v", lost, err)
	}
	p.client.Del(t.Context(), "celery", taskMeta(0))
	if lost, _ := p.othersLost(t.Context()); lost != 2 {
		t.Errorf("%d of the others' keys are lost, want 2", lost)
	}
}

func TestHitsAreCountedByFamilyAndTime(t *testing.T) {
	p := &player{looks: []look{
		{1, useResult, false}, {2, useResult, true}, {2, usePage, false}, {3, useResult, false}, {4, useResult, true},
	}}
	if got := p.hitRate(2, 4, useResult); got != 50 {
		t.Errorf("%.0f %% of the results, want 50", got)
	}
	if got := p.hitRate(0, 9, usePage); got != 0 {
		t.Errorf("%.0f %% of the pages, want 0", got)
	}
	if got := p.hitRate(0, 9, useResult, usePage); got != 40 {
		t.Errorf("%.0f %% of both, want 2 of 5", got)
	}
}

func TestEachWayToCleanReachesItsTarget(t *testing.T) {
	b := prepared(t)
	var history []event
	for _, e := range trace(1) {
		// Results that were all used long enough ago for min_idle.
		if e.at < 0 && (e.action != useResult || e.at < -time.Duration(slices.Max(minIdles())+5)*minute) {
			history = append(history, e)
		}
	}
	for i, c := range cleaners() {
		if i == nobody {
			continue
		}
		t.Run(strings.ReplaceAll(c.label, " ", "-"), func(t *testing.T) {
			p := testPlayer(t, history)
			before, err := p.used(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			limit := int64(float64(before) / 0.62)
			target := int64(float64(limit) * cleanedTo)
			if err := c.clean(t.Context(), b, p, limit, target); err != nil {
				t.Fatal(err)
			}
			if err := p.server.drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			after, err := p.used(t.Context())
			if err != nil || after > target {
				t.Errorf("memory is at %d, want at most %d (%v)", after, target, err)
			}
		})
	}
}
