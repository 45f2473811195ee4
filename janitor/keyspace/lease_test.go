package keyspace

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/redistest"
)

func TestTheLeaseBelongsToOneAtATime(t *testing.T) {
	for _, db := range []int{0, 7} {
		t.Run(fmt.Sprintf("DB %d", db), func(t *testing.T) {
			underPressure(t, db, func(*redis.Client) {}, func(t *testing.T, n *Node, c *redis.Client) {
				ctx := t.Context()
				take := func(token string, renew bool) (Holder, bool) {
					t.Helper()
					holder, ours, err := n.TakeLease(ctx, token, "host of "+token, "since "+token, time.Minute, renew)
					if err != nil {
						t.Fatalf("%s: %v", token, err)
					}
					return holder, ours
				}
				holds := func(name string) {
					t.Helper()
					holder, held, err := n.LeaseHolder(ctx)
					if err != nil || held != (name != "") || held && holder.Name != "host of "+name {
						t.Fatalf("the holder is %+v (held: %v), want %q: %v", holder, held, name, err)
					}
				}
				holds("")
				if _, ours := take("a", true); ours {
					t.Error("a lease that nobody holds was renewed")
				}
				holds("")
				if holder, ours := take("a", false); !ours || holder.Name != "host of a" || holder.Left != time.Minute {
					t.Errorf("taking it: %v, %+v", ours, holder)
				}
				holds("a")
				for _, renew := range []bool{false, true} {
					holder, ours := take("b", renew)
					if ours || holder.Name != "host of a" || holder.Since != "since a" || holder.Left <= 50*time.Second || holder.Left > time.Minute {
						t.Errorf("another's (renew %v): %v, %+v", renew, ours, holder)
					}
				}
				if db != 0 && exists(t, c, LeaseKey) == "1" {
					t.Errorf("it lives in DB %d", db)
				}
				for _, renew := range []bool{true, false} {
					if _, ours := take("a", renew); !ours {
						t.Errorf("one's own (renew %v) is not ours", renew)
					}
				}
				if err := n.ReleaseLease(ctx, "b"); err != nil {
					t.Error(err)
				}
				holds("a")
				if err := n.ReleaseLease(ctx, "a"); err != nil {
					t.Error(err)
				}
				holds("")
				if err := n.ReleaseLease(ctx, "a"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestRenewingKeepsALeaseAndLosingItIsTold(t *testing.T) {
	s := redistest.Start(t)
	n, c := evicting(t, s), s.Client()
	ctx := t.Context()
	take := func(token string, lasts time.Duration, renew bool) bool {
		t.Helper()
		_, ours, err := n.TakeLease(ctx, token, token, "", lasts, renew)
		if err != nil {
			t.Fatal(err)
		}
		return ours
	}
	if !take("a", 20*time.Second, false) {
		t.Fatal("not taken")
	}
	do(t, c, cmd("pexpire", LeaseKey, 1000))
	if !take("a", 20*time.Second, true) {
		t.Error("not renewed")
	}
	if left := c.PTTL(ctx, LeaseKey).Val(); left < 15*time.Second {
		t.Errorf("after renewing %s are left", left)
	}
	do(t, c, cmd("pexpire", LeaseKey, 1))
	eventually(t, "the lease to run out", func() bool { return exists(t, c, LeaseKey) == "0" })
	if take("a", 20*time.Second, true) {
		t.Error("a lease that had run out was renewed")
	}
	if !take("b", 20*time.Second, false) {
		t.Error("a lease that had run out was not free")
	}
	if take("a", 20*time.Second, true) {
		t.Error("another's lease was renewed")
	}
}

func TestOthersKeysWithOurNamesAreLeftAlone(t *testing.T) {
	for name, commands := range map[string][][]any{
		"a string":           {cmd("set", LeaseKey, "v"), cmd("set", CooldownKey, "v")},
		"a list":             {cmd("rpush", LeaseKey, "v"), cmd("rpush", CooldownKey, "v")},
		"a hash":             {cmd("hset", LeaseKey, "f", "v"), cmd("hset", CooldownKey, "f", "v")},
		"a lease for ever":   {cmd("hset", LeaseKey, "token", "t"), cmd("sadd", CooldownKey, "v")},
		"a hash with a TTL":  {cmd("hset", LeaseKey, "f", "v"), cmd("pexpire", LeaseKey, 60_000), cmd("zadd", CooldownKey, 1, "v")},
		"a stream and a TTL": {cmd("xadd", LeaseKey, "*", "f", "v"), cmd("pexpire", LeaseKey, 60_000), cmd("xadd", CooldownKey, "*", "f", "v")},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			n, c := evicting(t, s), s.Client()
			ctx := t.Context()
			do(t, c, commands...)
			do(t, c, cmd("set", "k", "v", "px", 60_000))
			before := redistest.Snapshot(ctx, c)
			for _, renew := range []bool{false, true} {
				_, ours, err := n.TakeLease(ctx, "token", "host", "since", time.Minute, renew)
				if e := refused(t, err, WrongType); ours || e.Sent || e.Hint == "" {
					t.Errorf("the lease is ours: %v; %+v", ours, e)
				}
			}
			if _, held, err := n.LeaseHolder(ctx); held || KindOf(err) != WrongType {
				t.Errorf("the lease is held: %v, %v", held, err)
			}
			if err := n.ReleaseLease(ctx, "token"); err != nil {
				refused(t, err, WrongType)
			}
			r, err := n.Evict(ctx, Batch{Keys: []string{"k"}, MaxTTL: time.Hour, LeaseToken: "token"})
			if err == nil || fates(r) != "d" {
				t.Errorf("without the lease the fates are %s: %v", fates(r), err)
			}
			after := redistest.Snapshot(ctx, c)
			for key, was := range before {
				if after[key] != was {
					t.Errorf("%q was changed", key)
				}
			}
		})
	}
}

func TestWhoHoldsTheLeaseIsToldInPlainLetters(t *testing.T) {
	s := redistest.Start(t)
	n := evicting(t, s)
	if _, _, err := n.TakeLease(t.Context(), "t", "h\x1b[2J\u202eost", "si\r\nnce", time.Minute, false); err != nil {
		t.Fatal(err)
	}
	want := Holder{Name: "h?[2J?ost", Since: "si??nce"}
	read, _, err := n.LeaseHolder(t.Context())
	if read.Left = 0; read != want || err != nil {
		t.Errorf("reading it: %+v: %v", read, err)
	}
	taken, _, err := n.TakeLease(t.Context(), "other", "", "", time.Minute, false)
	if taken.Left = 0; taken != want || err != nil {
		t.Errorf("taking it: %+v: %v", taken, err)
	}
}

func TestReadingTheLeaseDoesNotTouchIt(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	do(t, c, cmd("hset", LeaseKey, "token", "t", "holder", "h", "since", "s"), cmd("pexpire", LeaseKey, 60_000))
	before := redistest.Snapshot(t.Context(), c)
	n := open(t, options(s.URL(), Reading))
	if holder, held, err := n.LeaseHolder(t.Context()); err != nil || !held || holder.Name != "h" || holder.Since != "s" {
		t.Errorf("%+v, %v: %v", holder, held, err)
	}
	if after := redistest.Snapshot(t.Context(), c); after[LeaseKey] != before[LeaseKey] {
		t.Error("it was changed")
	}
}
