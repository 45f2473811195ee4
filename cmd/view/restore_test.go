package view

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor"
)

// broughtBack is what a restore of two families came to.
func broughtBack(dry bool) *janitor.Report {
	r := base("restore", janitor.Restored, janitor.Complete, 0, "restored 1200 of 1300 keys on 127.0.0.1:6379")
	made := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r.Capsule = &janitor.CapsuleReport{File: "last.capsule", Keys: 1300, Bytes: 5 << 20, MadeAt: &made, Server: "redis 7.0.15"}
	r.Restore = &janitor.RestoreReport{DryRun: dry, RestoreCounts: janitor.RestoreCounts{Keys: 1300, Restored: 1200, Exists: 60, Expired: 40},
		Families: []janitor.RestoredFamily{
			{Name: "ml-results", RestoreCounts: janitor.RestoreCounts{Keys: 1250, Restored: 1190, Exists: 60, Bytes: 3 << 20}},
			{Name: "sessions", RestoreCounts: janitor.RestoreCounts{Keys: 50, Restored: 10, Expired: 40, Bytes: 1 << 10}},
		}}
	return r
}

func TestARestoreShowsItsCapsuleAndWhatCameBackByFamily(t *testing.T) {
	text := render(t, Options{Width: 100}, broughtBack(false))
	for _, want := range []string{
		"RESTORED  restored 1200 of 1300 keys", "Capsule  last.capsule, 1,300 keys, 5.00 MB, taken 2026-03-01T12:00:00Z from redis 7.0.15",
		"Family      Captured  Restored  Exist  Expired", "ml-results     1,250     1,190     60        0  3.00 MB", "sessions          50        10      0       40  1.00 KB",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing from\n%s", want, text)
		}
	}
	for _, other := range []string{"Level", "Memory", "Matched"} {
		if strings.Contains(text, other) {
			t.Errorf("it speaks of %s:\n%s", other, text)
		}
	}
	if text = render(t, Options{Width: 100}, broughtBack(true)); !strings.Contains(text, "Would restore") || !strings.Contains(text, "nothing was written") {
		t.Error(text)
	}
}

func TestTheQuestionBeforeARestoreIsAboutWriting(t *testing.T) {
	var out bytes.Buffer
	if err := ConfirmPrompt(Options{Out: &out}, broughtBack(true)); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "Write 1,200 keys to ") || strings.Contains(text, "elete") || !strings.HasSuffix(text, "anything else to leave: ") {
		t.Error(text)
	}
}

func TestAnExecuteNamesItsCapsule(t *testing.T) {
	r := executed()
	r.Capsule = &janitor.CapsuleReport{File: "c", Keys: 1, Bytes: 1 << 10}
	if text := render(t, Options{Width: 100}, r); !strings.Contains(text, "Capsule  c, 1 key, 1.00 KB\n") {
		t.Error(text)
	}
}
