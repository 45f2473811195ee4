package main

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestAnEvenKeyspaceIsAsDrawn(t *testing.T) {
	s := testServer(t)
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			s.client.FlushAll(t.Context())
			random := rand.New(rand.NewPCG(1, 1))
			e := even{kind: kind, keys: 300, elements: 5, length: 20, share: 0.5}
			if err := e.fill(t.Context(), s.Addr, random); err != nil {
				t.Fatal(err)
			}
			old := 0
			for i := range e.keys {
				name := evenName(i)
				if got := s.client.Type(t.Context(), name).Val(); got != kind {
					t.Fatalf("%s is a %s", name, got)
				}
				if s.client.PTTL(t.Context(), name).Val() <= predictLifetime-predictAge {
					old++
				}
			}
			if n := s.client.DBSize(t.Context()).Val(); n != int64(e.keys) {
				t.Errorf("there are %d keys, want %d", n, e.keys)
			}
			if old < 120 || old > 180 {
				t.Errorf("%d of 300 keys are old, want about half", old)
			}
		})
	}
}

func TestATrialHasMoreKeysThanASample(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 1000 {
		e := drawEven(kinds()[i%5], random)
		if e.keys < 25_000 || e.keys*e.elements > 4_000_000 || e.length < 10 || e.share < 0.2 || e.share > 1 {
			t.Errorf("drew %+v", e)
		}
	}
}

func TestTheSlowLogIsNotTakenForWhatTheKeysTake(t *testing.T) {
	s := testServer(t)
	before, err := s.settledMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.client.ConfigSet(t.Context(), "slowlog-log-slower-than", "0")
	words := []any{"DEL"}
	for range 40 {
		words = append(words, strings.Repeat("none", 30))
	}
	for range 200 {
		s.client.Do(t.Context(), words...)
	}
	s.client.ConfigSet(t.Context(), "slowlog-log-slower-than", "-1")
	if n := s.client.SlowLogGet(t.Context(), 200).Val(); len(n) < 200 {
		t.Fatalf("%d commands are in the slow log, so nothing is tried here", len(n))
	}
	after, err := s.settledMemory(t.Context())
	if err != nil || after-before > 100<<10 {
		t.Errorf("%d bytes more than before, and not a key: %v", after-before, err)
	}
}

func TestATrialIsCoveredFromEndToEndOfItsInterval(t *testing.T) {
	for freed, want := range map[int64]bool{99: false, 100: true, 105: true, 110: true, 111: false} {
		if got := (trial{bytes: 105, low: 100, high: 110, freed: freed}).covered(); got != want {
			t.Errorf("%d freed: %v", freed, got)
		}
	}
	if off := (trial{bytes: 90, freed: 100}).off(); off < 0.0999 || off > 0.1001 {
		t.Errorf("off by %f, want a tenth", off)
	}
}

func TestAReportOfAnotherOutcomeIsAnError(t *testing.T) {
	good := `{"outcome":"planned","nodes":[{"families":[{"name":"even","estimate":{"bytes":7,"bytes_low":5,"bytes_high":9}}]}]}`
	r, err := readReport(good, "planned")
	if err != nil || r.Nodes[0].Families[0].Estimate.High != 9 {
		t.Errorf("read %+v, %v", r, err)
	}
	for _, bad := range []string{strings.Replace(good, "planned", "refused", 1), `{"outcome":"planned","nodes":[]}`, "no JSON"} {
		if _, err := readReport(bad, "planned"); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
