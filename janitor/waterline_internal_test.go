package janitor

import (
	"slices"
	"testing"
	"time"

	"redis-janitor/ttlpolicy"
)

// On a real server this takes eight walks that others keep from reaching the target, each by a hair.
func TestAfterTheLastRaiseOneFamilyGoesAfterTheOther(t *testing.T) {
	all, none, line := ttlpolicy.TakeAll(), ttlpolicy.TakeNone(), ttlpolicy.Cut{TTL: time.Minute}
	cuts := []ttlpolicy.Cut{all, line, none, none}
	for _, want := range [][]ttlpolicy.Cut{{all, all, none, none}, {all, all, all, none}, {all, all, all, all}} {
		next := oneFamilyOn(cuts)
		if !slices.Equal(next, want) || !higher(next, cuts) || higher(cuts, next) {
			t.Fatalf("after %+v comes %+v, want %+v", cuts, next, want)
		}
		if everything(cuts) || everything(next) != !slices.Contains(want, none) {
			t.Errorf("%+v takes everything: %v", next, everything(next))
		}
		cuts = next
	}
}
