package janitor_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"redis-janitor/janitor"
	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/redistest"
)

// captures has do see each batch on its way to be captured, one at a time: its script takes seven arguments.
func captures(p *redistest.FaultProxy, do func()) {
	var one sync.Mutex
	p.Answer(func(cmd []string) (string, bool) {
		if named, err := strconv.Atoi(cmd[min(2, len(cmd)-1)]); err == nil && strings.EqualFold(cmd[0], "EVALSHA") && len(cmd) == 3+named+7 {
			one.Lock()
			defer one.Unlock()
			do()
		}
		return "", false
	})
}

func TestADeletionWhoseReplyWasLostIsPutBackWhereItHappened(t *testing.T) {
	for _, done := range []bool{true, false} {
		s := redistest.Start(t)
		c := s.Client()
		plantTypes(t, c, 5000)
		before := familyKeys(t, c)
		proxy := redistest.Proxy(t, s.Addr)
		seen := 0
		if fifth := func() bool { seen++; return seen == 5 }; done {
			// By its name alone the reply of another worker's capture might be the one that is lost, and that is asked anew.
			proxy.DropReplyTo(func(cmd []string) bool { return boundEviction(cmd) != nil && fifth() })
		} else {
			boundEvictions(proxy, func([]string) {
				if fifth() {
					proxy.Cut()
				}
			})
		}
		file := filepath.Join(t.TempDir(), "c")
		r := clean(t, s, append(taking(file), through(proxy), brisk)...)
		if r.Totals.Uncertain == 0 {
			t.Errorf("nothing is uncertain: %+v, %s", r.Totals, r.Message)
		}
		if len(familyKeys(t, c)) == len(before) {
			t.Error("nothing went")
		}
		putBack(t, s, file)
		expectSameKeys(t, familyKeys(t, c), before)
	}
}

func TestASignalBetweenCopyAndDeletionStillFinishesTheBatch(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantTypes(t, c, 5000)
	before := familyKeys(t, c)
	proxy := redistest.Proxy(t, s.Addr)
	ctx, stop := context.WithCancelCause(t.Context())
	var once sync.Once
	boundEvictions(proxy, func([]string) {
		once.Do(func() { stop(&janitor.Signal{Name: "SIGINT", Exit: janitor.ExitInterrupt}) })
	})
	file := filepath.Join(t.TempDir(), "c")
	r := cleanOn(ctx, t, t.TempDir(), s, append(taking(file), through(proxy))...)
	expect(t, r, janitor.Incomplete, janitor.Interrupted, janitor.ExitInterrupt)
	gone := int64(len(before) - len(familyKeys(t, c)))
	if gone == 0 || r.Totals.Evicted != gone || r.Totals.Uncertain != 0 {
		t.Errorf("%d keys are gone: %+v", gone, r.Totals)
	}
	back := putBack(t, s, file)
	expect(t, back, janitor.Restored, janitor.Complete, janitor.ExitDone)
	if back.Restore.Restored != gone || back.Restore.Stayed != back.Restore.Keys-gone {
		t.Errorf("%d were gone: %+v", gone, back.Restore.RestoreCounts)
	}
	expectSameKeys(t, familyKeys(t, c), before)
}

func TestARestartHalfWayLosesNothingThatACapsuleHolds(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantTypes(t, c, 5000)
	before := familyKeys(t, c)
	do(t, c, []any{"SAVE"})
	proxy := redistest.Proxy(t, s.Addr)
	seen := 0
	boundEvictions(proxy, func([]string) {
		if seen++; seen == 10 {
			s.Kill()
			s.Restart(t)
		}
	})
	file := filepath.Join(t.TempDir(), "c")
	r := clean(t, s, append(taking(file), through(proxy), brisk)...)
	expectWarning(t, r, "possibly_incomplete")
	if left := familyKeys(t, s.Client()); len(left) > 0 {
		t.Errorf("%d keys are left: %s", len(left), r.Message)
	}
	putBack(t, s, file)
	expectSameKeys(t, familyKeys(t, s.Client()), before)
}

func TestWhereItIsNotKnownWhetherAKeyWentWhatIsThereStaysEvenIfItIsToBeReplaced(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	do(t, c, []any{"SET", "old", "old"})
	dump := c.Dump(t.Context(), "old").Val()
	for _, fate := range []capsule.Fate{capsule.Unknown, capsule.Uncertain, capsule.Evicted, 'r'} {
		file := filepath.Join(t.TempDir(), "c")
		w, err := capsule.Create(file, capsule.Header{}, capsule.ID{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		number, err := w.Add(capsule.Block{Family: "f", Entries: []capsule.Entry{{Key: "there", ExpiresAt: -1, TTL: -1, Value: dump}, {Key: "gone", ExpiresAt: -1, TTL: -1, Value: dump}}})
		if err == nil && fate != capsule.Unknown {
			err = w.Settle(number, []capsule.Fate{fate, fate})
		}
		if err == nil {
			err = w.Close(capsule.Footer{})
		}
		if err != nil {
			t.Fatal(err)
		}
		do(t, c, []any{"FLUSHDB"}, []any{"SET", "there", "newer"})
		dry := putBack(t, s, file, replacing, rehearsed)
		r := putBack(t, s, file, replacing)
		over := int64(0) // only who looks first can tell what is written over
		if fate == capsule.Evicted {
			over = 1
		}
		if dry.Restore.Replaced != over {
			t.Errorf("%q: rehearsed over %d keys, want %d", fate, dry.Restore.Replaced, over)
		}
		if dry.Restore.Replaced = 0; dry.Restore.RestoreCounts != r.Restore.RestoreCounts {
			t.Errorf("%q: rehearsed %+v, done %+v", fate, dry.Restore.RestoreCounts, r.Restore.RestoreCounts)
		}
		there, gone := c.Get(t.Context(), "there").Val(), c.Get(t.Context(), "gone").Val()
		if (there == "old") != (fate == capsule.Evicted) || (gone == "old") != (fate != 'r') {
			t.Errorf("%q: there %q, gone %q, %+v", fate, there, gone, r.Restore.RestoreCounts)
		}
	}
}

func TestAJanitorWithoutItsLeaseDeletesNothingThatItHasCopied(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantTypes(t, c, 5000)
	proxy := redistest.Proxy(t, s.Addr)
	seen := 0
	captures(proxy, func() {
		if seen++; seen == 3 {
			// In one go: another worker may look at the lease meanwhile.
			do(t, c, []any{"EVAL", "redis.call('DEL', KEYS[1]) redis.call('HSET', KEYS[1], 'token', 'of another') return redis.call('PEXPIRE', KEYS[1], 60000)", 1, leaseKey})
		}
	})
	file := filepath.Join(t.TempDir(), "c")
	r := clean(t, s, append(taking(file), through(proxy))...)
	expect(t, r, janitor.Incomplete, janitor.LeaseLost, janitor.ExitIncomplete)
	left := int64(len(familyKeys(t, c)))
	if r.Totals.Evicted != 5000-left {
		t.Errorf("%d are left: %+v", left, r.Totals)
	}
	if back := putBack(t, s, file); back.Restore.Restored != r.Totals.Evicted {
		t.Errorf("%d went: %+v", r.Totals.Evicted, back.Restore.RestoreCounts)
	}
}

func TestARunThatTakesNothingLeavesNoCapsule(t *testing.T) {
	s := redistest.Start(t)
	file := filepath.Join(t.TempDir(), "c")
	r := clean(t, s, taking(file)...)
	expect(t, r, janitor.Nothing, janitor.Exhausted, janitor.ExitDone)
	if _, err := os.Stat(file); err == nil || r.Capsule != nil {
		t.Errorf("%v, %+v", err, r.Capsule)
	}
}
