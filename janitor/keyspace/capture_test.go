package keyspace

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor/redistest"
)

// preserving is a node that may capture.
func preserving(t *testing.T, s *redistest.Server) *Node {
	t.Helper()
	return open(t, options(s.URL(), Preserving))
}

// asVersion has the node believe that it talks to another version.
func asVersion(n *Node, version string) {
	info := Info{fields: maps.Clone(n.First().fields)}
	info.fields["redis_version"] = version
	n.first.Store(&info)
}

func captureAll(t *testing.T, n *Node, b Batch, largest int64) Capture {
	t.Helper()
	if b.MaxBytes == 0 {
		b.MaxBytes = 1 << 20
	}
	c, err := n.Capture(t.Context(), b, largest)
	if err != nil {
		t.Fatalf("capturing: %v", err)
	}
	return c
}

func TestAKeyNamedTwiceIsDeletedOnceAndNoOtherIsBlamed(t *testing.T) {
	s := redistest.Start(t)
	n, c := evicting(t, s), s.Client()
	do(t, c, cmd("mset", "a", 1, "b", 2, "c", 3))
	if got := evict(t, n, Batch{Keys: []string{"a", "b", "a", "c", "b"}, Persistent: true, MaxTTL: -1}); fates(got) != "eevev" {
		t.Errorf("fates %s", fates(got))
	}
}

func TestWhatMayGoIsCapturedWithItsTypeAndExpiry(t *testing.T) {
	for _, version := range []string{"7.0.15", "6.2.16"} {
		t.Run("as "+version, func(t *testing.T) {
			s := redistest.Start(t)
			n, c := preserving(t, s), s.Client()
			asVersion(n, version)
			do(t, c, cmd("set", "short", "v", "px", 600_000), cmd("set", "long", "v", "px", 7_200_000), cmd("set", "never", "v"),
				cmd("hset", "hash", "f", "v"), cmd("pexpire", "hash", 100_000), cmd("set", "large", strings.Repeat("x", 5000), "px", 600_000))
			keys := []string{"short", "long", "gone", "never", "hash", "large"}
			for _, way := range []struct {
				batch Batch
				fates string
			}{
				{Batch{Keys: keys, MaxTTL: time.Hour}, "ervreb"},
				{Batch{Keys: keys, MaxTTL: time.Hour, Persistent: true, Lifetime: 3 * time.Hour}, "eoveeb"},
				{Batch{Keys: keys, MaxTTL: time.Hour, Lifetime: time.Hour}, "elvneb"},
				{Batch{Keys: keys, MaxTTL: time.Hour, MinIdle: time.Hour, Lifetime: time.Hour}, "ilvnii"},
			} {
				got := captureAll(t, n, way.batch, 3000)
				if fates(Removal{Fates: got.Fates}) != way.fates || got.Refusal != nil {
					t.Errorf("fates %s, want %s: %v", fates(Removal{Fates: got.Fates}), way.fates, got.Refusal)
				}
				for i, key := range keys {
					if got.Fates[i] != Gone {
						if got.Values[i] != (Captured{}) {
							t.Errorf("%s is %q and was read", key, got.Fates[i])
						}
						continue
					}
					v := got.Values[i]
					at := c.Do(t.Context(), "pexpiretime", key).Val()
					if v.Type != c.Type(t.Context(), key).Val() || v.Value != c.Dump(t.Context(), key).Val() || v.ExpiresAt != at || got.TTLs[i] != v.TTL {
						t.Errorf("%s: %+v; it expires at %v", key, v, at)
					}
				}
			}
			if there := exists(t, c, keys...); there != "110111" {
				t.Errorf("capturing deleted: %s", there)
			}
		})
	}
}

func TestACaptureEndsAtItsBytes(t *testing.T) {
	s := redistest.Start(t)
	n, c := preserving(t, s), s.Client()
	var keys []string
	for i := range 10 {
		keys = append(keys, fmt.Sprint(i))
		do(t, c, cmd("set", i, strings.Repeat("x", 1000)))
	}
	got := captureAll(t, n, Batch{Keys: keys, Persistent: true, MaxTTL: -1, MaxBytes: 3500}, 1<<20)
	if fates(Removal{Fates: got.Fates}) != "eeeddddddd" {
		t.Errorf("fates %s", fates(Removal{Fates: got.Fates}))
	}
}

func TestABoundKeyGoesOnlyAsItWasCaptured(t *testing.T) {
	for _, version := range []string{"7.0.15", "6.2.16"} {
		for _, change := range []struct {
			name string
			do   []any
			fate string
		}{
			{"nothing", cmd("ping"), "e"}, {"the value", cmd("append", "k", "w"), "r"}, {"a longer TTL", cmd("pexpire", "k", 700_000), "r"},
			{"a shorter TTL", cmd("pexpire", "k", 500_000), "r"}, {"no TTL any more", cmd("persist", "k"), "r"}, {"deleted", cmd("del", "k"), "v"},
			{"the type", cmd("set", "k", "1", "keepttl"), "r"}, {"only read", cmd("get", "k"), "e"},
		} {
			t.Run(version+" "+change.name, func(t *testing.T) {
				s := redistest.Start(t)
				n, c := preserving(t, s), s.Client()
				asVersion(n, version)
				do(t, c, cmd("rpush", "k", "v"), cmd("del", "k"), cmd("set", "k", "v", "px", 600_000))
				b := Batch{Keys: []string{"k"}, Persistent: true, MaxTTL: time.Hour}
				b.Stored = captureAll(t, n, b, 1<<20).Values
				do(t, c, change.do)
				if got := evict(t, n, b); fates(got) != change.fate {
					t.Errorf("fate %s, want %s", fates(got), change.fate)
				}
			})
		}
	}
}

func TestWhatRefusesToBeCapturedEndsTheBatchAndSaysWhy(t *testing.T) {
	for _, lacking := range []string{"dump", "memory|usage", "type", "pexpiretime"} {
		s := redistest.Start(t)
		do(t, s.Client(), cmd("mset", "a", 1, "b", 2), cmd("pexpire", "a", 1000_000), cmd("acl", "setuser", "janitor", "on", ">pw", "~*", "+@all", "-"+lacking))
		n := open(t, options("redis://janitor:pw@"+s.Addr, Preserving))
		got := captureAll(t, n, Batch{Keys: []string{"a", "b"}, Persistent: true, MaxTTL: time.Hour}, 1<<20)
		if fates(Removal{Fates: got.Fates}) != "fd" || KindOf(got.Refusal) != NoPerm {
			t.Errorf("without %s: fates %s, %v", lacking, fates(Removal{Fates: got.Fates}), got.Refusal)
		}
	}
}

func TestACaptureWhoseReplyIsLostChangedNothing(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr)
	n := open(t, options("redis://"+proxy.Addr, Preserving))
	do(t, s.Client(), cmd("set", "a", 1))
	b := Batch{Keys: []string{"a"}, Persistent: true, MaxTTL: -1, MaxBytes: 1}
	if err := n.CanCapture(t.Context()); err != nil {
		t.Fatal(err)
	}
	proxy.DropNextReply("EVALSHA")
	got, err := n.Capture(t.Context(), b, 1<<20)
	var failure *Error
	if !errors.As(err, &failure) || failure.Sent || got.Fates[0] != Deferred {
		t.Errorf("%v, %q", err, got.Fates)
	}
}

func TestTheServersClockIsKnown(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for text, want := range map[string]time.Duration{
		"server_time_usec:1700000005000000\r\n": 5 * time.Second, "server_time_usec:1699999999000000\r\n": -time.Second, "server_time_usec:x\r\n": 0, "": 0,
	} {
		if got := ParseInfo(text).Clock(now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestEachKeyThatIsPutBackHasItsOwnEnd(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	n := open(t, options(s.URL(), Restoring))
	do(t, c, cmd("set", "v", "value"), cmd("set", "there", "mine"), cmd("set", "replaced", "mine"))
	dump := c.Dump(t.Context(), "v").Val()
	at := time.Now().Add(time.Hour).UnixMilli()
	became, err := n.Restore(t.Context(), []PutBack{
		{Key: "absolute", Value: dump, ExpiresAt: at}, {Key: "relative", Value: dump, TTL: 600_000}, {Key: "never", Value: dump},
		{Key: "there", Value: dump}, {Key: "replaced", Value: dump, Replace: true},
	})
	if err != nil || fmt.Sprint(became) != fmt.Sprint([]Comeback{CameBack, CameBack, CameBack, Exists, CameBack}) {
		t.Errorf("%v, %v", became, err)
	}
	if got := c.Do(t.Context(), "pexpiretime", "absolute").Val(); got != at {
		t.Errorf("expires at %v, want %d", got, at)
	}
	if ttl := c.PTTL(t.Context(), "relative").Val(); ttl <= 590*time.Second || ttl > 600*time.Second {
		t.Errorf("a TTL of %s", ttl)
	}
	if ttl := c.PTTL(t.Context(), "never").Val(); ttl != -1 || c.Get(t.Context(), "there").Val() != "mine" || c.Get(t.Context(), "replaced").Val() != "value" {
		t.Errorf("a TTL of %s, or another value than was to be", ttl)
	}
	broken := dump[:len(dump)-1] + string(rune(dump[len(dump)-1]^1))
	if became, err = n.Restore(t.Context(), []PutBack{{Key: "broken", Value: broken}, {Key: "next", Value: dump}}); KindOf(err) != DumpVersion || became[0] != Unfit {
		t.Errorf("%v, %v", became, err)
	}
}
