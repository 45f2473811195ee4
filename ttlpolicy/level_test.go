package ttlpolicy

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
)

var combot = Thresholds{Cleanup: 0.60, Force: 0.75, Critical: 0.85}

func TestALevelBeginsExactlyAtItsThreshold(t *testing.T) {
	for _, tt := range []struct {
		ratio float64
		want  Level
	}{
		{0, OK}, {0.5999, OK}, {0.60, Cleanup}, {0.7499, Cleanup}, {0.75, Force}, {0.8499, Force},
		{0.85, Critical}, {1, Critical}, {1.7, Critical}, {math.Inf(1), Critical}, {math.NaN(), OK}, {-1, OK},
	} {
		if got := combot.LevelOf(tt.ratio); got != tt.want {
			t.Errorf("LevelOf(%v) = %v, want %v", tt.ratio, got, tt.want)
		}
	}
	for _, l := range Levels() {
		if combot.LevelOf(combot.Of(l)) != l {
			t.Errorf("a share of %v isn't %v", combot.Of(l), l)
		}
	}
	if combot.Of(OK) != 0 {
		t.Errorf("ok begins at %v, want 0", combot.Of(OK))
	}
}

func TestThresholdsOutOfOrderAreRefused(t *testing.T) {
	for _, good := range []Thresholds{combot, {0.1, 0.2, 1}} {
		if err := good.Validate(); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	for _, bad := range []Thresholds{
		{}, {0, 0.5, 0.6}, {0.6, 0.6, 0.8}, {0.6, 0.8, 0.8}, {0.8, 0.7, 0.9}, {0.6, 0.9, 0.8}, {0.6, 0.7, 1.1}, {-0.1, 0.5, 0.6},
		{math.NaN(), 0.5, 0.6}, {0.4, math.NaN(), 0.6}, {0.4, 0.5, math.NaN()},
	} {
		if bad.Validate() == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

func TestLevelsAreWordsInJSONAlsoAsKeys(t *testing.T) {
	want := map[Level]Level{OK: Critical, Cleanup: Force, Force: Cleanup, Critical: OK}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != `{"cleanup":"force","critical":"ok","force":"cleanup","ok":"critical"}` {
		t.Errorf("written as %s", text)
	}
	var got map[Level]Level
	if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read back as %v, %v", got, err)
	}
}

func TestAnUnknownLevelIsRefusedAndLeavesTheOldOne(t *testing.T) {
	for _, s := range []string{"", "Force", "emergency", "level(7)", " ok"} {
		l := Force
		if err := l.UnmarshalText([]byte(s)); err == nil || l != Force {
			t.Errorf("%q was read as %v", s, l)
		}
	}
	for _, l := range []Level{-1, 4} {
		if _, err := l.MarshalText(); err == nil {
			t.Errorf("%v was written", l)
		}
		if _, err := ParseLevel(l.String()); err == nil {
			t.Errorf("%v was read back", l)
		}
	}
}
