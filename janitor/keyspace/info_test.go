package keyspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"redis-janitor/janitor/redistest"
)

func infoOf(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "info", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\n", "\r\n")
}

func TestINFOIsReadAsEachServerWritesIt(t *testing.T) {
	for _, c := range []struct {
		file, server        string
		used                int64
		usedKnown           bool
		keys, expires, db3  int64
		replica, clustered  bool
		idleTimes, rssKnown bool
	}{
		{"redis-6.2.16", "redis 6.2.16", 878144, true, 21, 20, 1, false, false, true, true},
		{"redis-7.0.15", "redis 7.0.15", 969328, true, 21, 20, 1, false, false, true, true},
		{"redis-7.2.6", "redis 7.2.6", 958528, true, 21, 20, 1, false, false, true, true},
		{"redis-8.0.0", "redis 8.0.0", 1039144, true, 21, 20, 1, false, false, true, true},
		{"valkey-8.0.1", "valkey 8.0.1", 984784, true, 21, 20, 1, false, false, true, true},
		{"dragonfly-1.25", "dragonfly df-v1.25.6", 618736, true, 21, 20, 0, false, false, true, true},
		{"elasticache-6.0.5", "redis 6.0.5", 52428800, true, 21, 20, 0, true, true, false, false},
	} {
		info := ParseInfo(infoOf(t, c.file))
		if got := info.Server(); got != c.server {
			t.Errorf("%s: server %q, want %q", c.file, got, c.server)
		}
		if used, known := info.UsedMemory(); used != c.used || known != c.usedKnown {
			t.Errorf("%s: %d bytes are used (%v), want %d", c.file, used, known, c.used)
		}
		if keys, expires := info.Keys(0); keys != c.keys || expires != c.expires {
			t.Errorf("%s: %d keys, %d with a TTL", c.file, keys, expires)
		}
		if keys, expires := info.Keys(3); keys != c.db3 || expires != 0 {
			t.Errorf("%s: DB 3 has %d keys, %d with a TTL", c.file, keys, expires)
		}
		if info.Replica() != c.replica || info.Clustered() != c.clustered || info.TellsIdleTimes() != c.idleTimes {
			t.Errorf("%s: replica %v, clustered %v, idle times %v", c.file, info.Replica(), info.Clustered(), info.TellsIdleTimes())
		}
		if _, known := info.Int("used_memory_rss"); known != c.rssKnown {
			t.Errorf("%s: the RSS is known: %v", c.file, known)
		}
		if info.Forking() != "" || info.PendingFrees() != 0 || info.Ready("a") != nil {
			t.Errorf("%s: a fork %q, %d values to be freed, %v", c.file, info.Forking(), info.PendingFrees(), info.Ready("a"))
		}
	}
}

func TestWhatINFODoesNotTellIsUnknown(t *testing.T) {
	for _, text := range []string{
		"", "\r\n", "#", "# Memory", "used_memory", "used_memory:", "used_memory:many", "used_memory:1.5e9", "used_memory:99999999999999999999",
		":1000", "used_memory :1000", "\x00\xff\xfe", "used_memory:1000 bytes", "-ERR unknown command", "<html>used_memory:</html>",
	} {
		info := ParseInfo(text)
		if used, known := info.UsedMemory(); known || used != 0 {
			t.Errorf("%q: %d bytes are used", text, used)
		}
		if keys, expires := info.Keys(0); keys != 0 || expires != 0 {
			t.Errorf("%q: there are %d keys, %d with a TTL", text, keys, expires)
		}
		if info.Server() != "unknown" || info.Replica() || info.Clustered() || info.Forking() != "" || !info.TellsIdleTimes() {
			t.Errorf("%q tells %+v", text, info)
		}
	}
}

func TestINFOThatIsCutOffTellsWhatItStillHolds(t *testing.T) {
	whole := infoOf(t, "redis-7.0.15")
	complete := ParseInfo(whole)
	for cut := range len(whole) {
		part := ParseInfo(whole[:cut])
		if used, known := part.UsedMemory(); known && !strings.Contains(whole[:cut], "used_memory:"+part.Text("used_memory")) {
			t.Fatalf("after %d bytes %d are used", cut, used)
		}
		for name, value := range part.fields {
			if !strings.HasPrefix(complete.fields[name], value) {
				t.Fatalf("after %d bytes %s is %q", cut, name, value)
			}
		}
	}
}

func TestINFOTellsOfForksReplicasAndTheLikes(t *testing.T) {
	for text, holds := range map[string]func(i Info) bool{
		"rdb_bgsave_in_progress:1":                          func(i Info) bool { return i.Forking() == "BGSAVE" },
		"aof_rewrite_in_progress:1":                         func(i Info) bool { return i.Forking() == "AOF rewrite" },
		"role:slave":                                        Info.Replica,
		"cluster_enabled:1":                                 Info.Clustered,
		"redis_mode:cluster":                                Info.Clustered,
		"maxmemory_policy:allkeys-lfu":                      func(i Info) bool { return !i.TellsIdleTimes() },
		"lazyfree_pending_objects:17":                       func(i Info) bool { return i.PendingFrees() == 17 },
		"loading:1":                                         func(i Info) bool { return KindOf(i.Ready("a")) == Loading },
		"used_memory:1000\r\nmem_not_counted_for_evict:300": func(i Info) bool { n, ok := i.UsedMemory(); return n == 700 && ok },
		"used_memory:1000\r\nmem_not_counted_for_evict:x":   func(i Info) bool { n, ok := i.UsedMemory(); return n == 1000 && ok },
		"a:b:c":    func(i Info) bool { return i.Text("a") == "b:c" },
		"x:1\nx:2": func(i Info) bool { n, ok := i.Int("x"); return n == 2 && ok },
		"x:1.25":   func(i Info) bool { n, ok := i.Float("x"); return n == 1.25 && ok },
		"x:NaN":    func(i Info) bool { _, ok := i.Float("x"); return !ok },
		"db0:keys=5,expires=x,avg_ttl=0,subexpiry=2": func(i Info) bool { k, e := i.Keys(0); return k == 5 && e == 0 },
		"db0:expires=3": func(i Info) bool { k, e := i.Keys(0); return k == 0 && e == 3 },
		"redis_version:7.2.4\r\nvalkey_version:8.0.1\x1b[2J": func(i Info) bool { return i.Server() == "valkey 8.0.1?[2J" },
		"redis_version:6.2.0\r\nkeydb_version:6.3.4":         func(i Info) bool { return i.Server() == "keydb 6.3.4" },
	} {
		if !holds(ParseInfo(text)) {
			t.Errorf("%q is misread", text)
		}
	}
}

func TestTheServerAtHandTellsWhatIsNeeded(t *testing.T) {
	s := redistest.Start(t)
	do(t, s.ClientDB(5), cmd("set", "k", "v"), cmd("set", "l", "v", "px", 60_000))
	info := open(t, options("redis://"+s.Addr+"/5", Reading)).First()
	for _, name := range []string{"used_memory", "used_memory_rss", "maxmemory", "total_system_memory", "mem_not_counted_for_evict",
		"lazyfree_pending_objects", "rdb_bgsave_in_progress", "aof_rewrite_in_progress", "loading", "keyspace_hits", "evicted_keys"} {
		if _, known := info.Int(name); !known {
			t.Errorf("it does not tell %s", name)
		}
	}
	if keys, expires := info.Keys(5); keys != 2 || expires != 1 {
		t.Errorf("%d keys, %d with a TTL", keys, expires)
	}
	if info.Text("run_id") == "" || !strings.HasPrefix(info.Server(), "redis ") && !strings.HasPrefix(info.Server(), "valkey ") {
		t.Errorf("it is run %q of %q", info.Text("run_id"), info.Server())
	}
}

func FuzzParseInfo(f *testing.F) {
	for _, name := range []string{"redis-6.2.16", "redis-8.0.0", "valkey-8.0.1", "dragonfly-1.25", "elasticache-6.0.5"} {
		f.Add(infoOf(f, name))
	}
	f.Add("used_memory:-1\r\nmem_not_counted_for_evict:9223372036854775807")
	f.Fuzz(func(t *testing.T, text string) {
		info := ParseInfo(text)
		for name := range info.fields {
			if value := info.Text(name); strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q holds what does not print: %q", name, value)
			}
			if n, ok := info.Int(name); !ok && n != 0 {
				t.Errorf("%q is unknown and %d", name, n)
			}
		}
		_, told := info.fields["used_memory"]
		if used, known := info.UsedMemory(); known && (!told || used < 0) || !known && used != 0 {
			t.Errorf("%d bytes are used, known: %v", used, known)
		}
		keys, expires := info.Keys(0)
		if keys < 0 || expires < 0 || info.PendingFrees() < 0 {
			t.Errorf("%d keys, %d with a TTL, %d to be freed", keys, expires, info.PendingFrees())
		}
		perKey, perExpire := info.Overhead()
		if perKey < 0 || perExpire < 0 || info.FreedTables(0, keys, expires) < 0 {
			t.Errorf("overhead %v and %v, tables %d", perKey, perExpire, info.FreedTables(0, keys, expires))
		}
		if info.Server() == "" {
			t.Error("the server has no name")
		}
		info.CommandCosts()
		info.ErrorCounts()
	})
}
