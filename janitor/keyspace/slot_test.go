package keyspace

import (
	"strings"
	"testing"
	"testing/quick"

	"redis-janitor/janitor/redistest"
)

func TestAKeyHasTheSlotThatTheServerSays(t *testing.T) {
	s := redistest.Start(t, "--cluster-enabled", "yes")
	c := s.Client()
	same := func(key string) bool {
		slot, err := c.Do(t.Context(), "CLUSTER", "KEYSLOT", key).Int()
		return err == nil && slot == SlotOf(key)
	}
	for _, key := range []string{"", "a", "123456789", "{}a", "{}{a}", "a{b}c{d}", "{a", "a}", "}{", "{{a}}", "{a}}", "a{\x00\xff}b", "ml_results:x", LeaseKey, strings.Repeat("é", 300)} {
		if !same(key) {
			t.Errorf("%q is in slot %d by our count", key, SlotOf(key))
		}
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}

func TestATagPutsAKeyIntoOneOfTheSlots(t *testing.T) {
	for _, only := range []int{0, 1, 5460, 16383} {
		var s slotSet
		s.add(only)
		if SlotOf("x:{"+s.tag()+"}") != only || s.size() != 1 || s.lowest() != only {
			t.Errorf("the tag of slot %d is %s, in slot %d", only, s.tag(), SlotOf(s.tag()))
		}
	}
	if tag := (slotSet{}).tag(); tag != "" {
		t.Errorf("no slot has tag %s", tag)
	}
}

func TestAClustersMapIsReadAsItsServersWriteIt(t *testing.T) {
	row := func(from, to int64, node ...any) any {
		return []any{from, to, node, []any{"10.0.0.9", int64(7009), "replica"}}
	}
	for name, c := range map[string]struct {
		answer []any
		addrs  string // "" where it is refused
		kind   Kind
	}{
		"in order of their slots":             {[]any{row(8192, 16383, "10.0.0.2", int64(7002), "b"), row(0, 8191, "10.0.0.1", int64(7001), "a")}, "10.0.0.1:7001 10.0.0.2:7002", ""},
		"one server with several ranges":      {[]any{row(0, 5, "h", int64(1), "a"), row(7, 9, "i", int64(1), "b"), row(100, 200, "h", int64(1), "a")}, "h:1 i:1", ""},
		"an address that it keeps to itself":  {[]any{row(0, 16383, nil, int64(7001), "a")}, "door:7001", ""},
		"an address that it doesn't know":     {[]any{row(0, 16383, "", int64(7001), "a")}, "door:7001", ""},
		"nor its port":                        {[]any{row(0, 16383, "", int64(0), "a")}, "door:6379", ""},
		"a name that is wanted and not there": {[]any{row(0, 16383, "?", int64(7001), "a", []any{"ip", "10.0.0.1"})}, "10.0.0.1:7001", ""},
		"neither name nor IP":                 {[]any{row(0, 16383, "?", int64(7001), "a", []any{})}, "door:7001", ""},
		"an IPv6 address":                     {[]any{row(0, 16383, "::1", int64(7001), "a")}, "[::1]:7001", ""},
		"without an id, as 3.0 did":           {[]any{[]any{int64(0), int64(16383), []any{"h", int64(1)}}}, "h:1", ""},
		"several servers behind one address":  {[]any{row(0, 8191, nil, int64(6379), "a"), row(8192, 16383, nil, int64(6379), "b")}, "", NotCluster},
		"no slots":                            {[]any{}, "", ClusterDown},
		"a slot that there isn't":             {[]any{row(0, 16384, "h", int64(1), "a")}, "", Other},
		"a range that is none":                {[]any{row(9, 8, "h", int64(1), "a")}, "", Other},
		"a port that there isn't":             {[]any{row(0, 9, "h", int64(65536), "a")}, "", Other},
		"something else":                      {[]any{"OK"}, "", Other},
		"a range of words":                    {[]any{[]any{"0", "1", []any{"h", int64(1)}}}, "", Other},
		"nobody":                              {[]any{[]any{int64(0), int64(1), []any{}}}, "", Other},
	} {
		shards, err := parseShards(c.answer, "door:6379")
		if err = fail(t.Context(), "", "", err); err != nil && KindOf(err) != c.kind || err == nil && c.addrs == "" {
			t.Errorf("%s: %v, kind %s", name, err, KindOf(err))
		}
		var addrs []string
		for _, s := range shards {
			addrs = append(addrs, s.addr)
		}
		if strings.Join(addrs, " ") != c.addrs {
			t.Errorf("%s: %q", name, addrs)
		}
	}
}
