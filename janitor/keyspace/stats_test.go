package keyspace

import (
	"maps"
	"testing"
	"time"

	"redis-janitor/janitor/redistest"
)

func TestCommandCostsAndErrorsAreReadAsTheServerCountsThem(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	do(t, c, cmd("SET", "k", "v"), cmd("GET", "k"), cmd("GET", "k"), cmd("CLIENT", "SETNAME", "somebody"))
	for range 3 {
		if err := c.LPush(t.Context(), "k", "v").Err(); err == nil {
			t.Fatal("LPUSH on a string was accepted")
		}
	}
	n := open(t, options(s.URL(), Reading))
	costs, err := n.CommandCosts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := costs["get"]; got.Calls != 2 || got.Time < 0 {
		t.Errorf("get cost %+v, want 2 calls", got)
	}
	if got := costs["client|setname"]; got.Calls < 1 {
		t.Errorf("the subcommand client|setname is missing from %v", costs)
	}
	if got := n.First().ErrorCounts(); got["WRONGTYPE"] != 3 {
		t.Errorf("errors %v, want 3 of WRONGTYPE", got)
	}
}

func TestWhatCannotBeReadOfStatisticsIsLeftOut(t *testing.T) {
	info := ParseInfo("cmdstat_get:calls=2,usec=9,usec_per_call=4.50\r\ncmdstat_set:calls=x,usec=9\r\ncmdstat_del:calls=1\r\n" +
		"errorstat_OOM:count=3\r\nerrorstat_ERR:many\r\nerrorstat_X:count=99999999999999999999\r\n")
	if got, want := info.CommandCosts(), map[string]CommandCost{"get": {2, 9 * time.Microsecond}}; !maps.Equal(got, want) {
		t.Errorf("costs %v, want %v", got, want)
	}
	if got, want := info.ErrorCounts(), map[string]int64{"OOM": 3}; !maps.Equal(got, want) {
		t.Errorf("errors %v, want %v", got, want)
	}
}
