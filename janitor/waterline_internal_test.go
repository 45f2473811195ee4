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
		next := oneFamilyOn(cuts, []ttlpolicy.Cut{all, all, all, all})
		if !slices.Equal(next, want) || !higher(next, cuts) || higher(cuts, next) {
			t.Fatalf("after %+v comes %+v, want %+v", cuts, next, want)
		}
		cuts = next
	}
}

func TestUnderACeilingNoFamilyGoesBeyondIt(t *testing.T) {
	none, low, high := ttlpolicy.TakeNone(), ttlpolicy.Cut{Persistent: true, TTL: time.Minute}, ttlpolicy.Cut{Persistent: true, TTL: time.Hour}
	ceiling := []ttlpolicy.Cut{high, none, low}
	cuts := []ttlpolicy.Cut{low, none, none}
	for _, want := range [][]ttlpolicy.Cut{{high, none, none}, {high, none, low}} {
		if cuts = oneFamilyOn(cuts, ceiling); !slices.Equal(cuts, want) {
			t.Fatalf("%+v, want %+v", cuts, want)
		}
	}
	if higher(ceiling, cuts) {
		t.Errorf("there is more to go than %+v", cuts)
	}
}
