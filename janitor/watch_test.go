package janitor_test

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// sparing is a run over a few thousand keys that has to slow down for somebody.
func sparing(t *testing.T, s *redistest.Server) {
	t.Helper()
	r := clean(t, s, fast, cleaning(1<<40, first), atLevel(ttlpolicy.Force), noTarget)
	expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
	expectWarning(t, r, "backed_off")
	if n := r.Nodes[0]; n.Backoffs == 0 || n.Families[0].Evicted != 5_000 {
		t.Errorf("slowed down %d times, %d keys evicted", n.Backoffs, n.Families[0].Evicted)
	}
}

func TestTheJanitorSlowsDownWhileTheServerForks(t *testing.T) {
	s := redistest.Start(t, "--rdb-key-save-delay", "10000") // µs: the snapshot outlasts the run
	fill(t, s, writeString, evenly("first:", 5_000, 10*time.Minute, time.Hour, bytesEach(100)))
	do(t, s.Client(), []any{"BGSAVE"})
	sparing(t, s)
}

func TestTheJanitorSlowsDownWhileAReplicaIsFarBehind(t *testing.T) {
	s := redistest.Start(t, "--client-output-buffer-limit", "replica 0 0 0", "--repl-timeout", "600")
	fill(t, s, writeString, evenly("first:", 5_000, 10*time.Minute, time.Hour, bytesEach(100)))
	replica := redistest.StartReplica(t, s)
	replica.Pause()
	defer replica.Resume()
	large := strings.Repeat("v", 1<<20)
	for i := range 20 {
		do(t, s.Client(), []any{"SET", "others:" + strconv.Itoa(i), large})
	}
	sparing(t, s)
}

func TestTheJanitorSlowsDownWhereItsCanaryIsSlow(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.Proxy(t, s.Addr)
	fill(t, s, writeString, evenly("first:", 5_000, 10*time.Minute, time.Hour, bytesEach(100)))
	// Fewer pings than a survey's beginning sends tell the usual round trip. From then on they are slow.
	var pings atomic.Int64
	p.Answer(func(cmd []string) (string, bool) {
		if strings.EqualFold(cmd[0], "PING") && pings.Add(1) > 9 {
			<-time.After(50 * time.Millisecond)
			return "-MISCONF Errors writing to the AOF file", true // which measures as well as an answer
		}
		return "", false
	})
	r := clean(t, s, fast, cleaning(1<<40, first), atLevel(ttlpolicy.Force), noTarget, through(p), func(r *janitor.Request) { r.MaxRate = 4_000 })
	expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
	expectWarning(t, r, "backed_off")
	if dbSize(t, s.Client()) != 1 && dbSize(t, s.Client()) != 0 { // the cooldown's mark
		t.Errorf("%d keys left", dbSize(t, s.Client()))
	}
}

func TestAPingThatIsRefusedEndsNoRun(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.Proxy(t, s.Addr)
	fill(t, s, writeString, evenly("first:", 1_000, 10*time.Minute, time.Hour, bytesEach(100)))
	p.Answer(func(cmd []string) (string, bool) {
		return "-MISCONF Errors writing to the AOF file", strings.EqualFold(cmd[0], "PING")
	})
	expect(t, clean(t, s, cleaning(1<<40, first), atLevel(ttlpolicy.Force), noTarget, through(p)), janitor.Evicted, janitor.Exhausted, 0)
}

func TestThePaceFollowsTheLevel(t *testing.T) {
	s := redistest.Start(t)
	for level, pace := range map[ttlpolicy.Level]string{ttlpolicy.Cleanup: "gentle", ttlpolicy.Force: "balanced", ttlpolicy.Critical: "fast"} {
		if r := clean(t, s, calm, atLevel(level), noTarget); r.Nodes[0].Pace != pace {
			t.Errorf("at %s the pace is %s, want %s", level, r.Nodes[0].Pace, pace)
		}
	}
}

func TestTheScanLeavesOutOnTheServerWhatNoFamilyMatches(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.Proxy(t, s.Addr)
	for name, tt := range map[string]struct {
		families []janitor.Family
		match    string
	}{
		"one family":           {[]janitor.Family{first}, "first:*"},
		"with a common prefix": {[]janitor.Family{anyAge("a", "cache:a:*", time.Hour), anyAge("b", "cache:b:*", time.Hour)}, "cache:*"},
		"without one":          {[]janitor.Family{first, second}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var one sync.Mutex
			var asked []string
			p.Answer(func(cmd []string) (string, bool) {
				if strings.EqualFold(cmd[0], "SCAN") {
					one.Lock()
					defer one.Unlock()
					match := ""
					if i := slices.IndexFunc(cmd, func(word string) bool { return strings.EqualFold(word, "MATCH") }); i >= 0 && cmd[i+1] != "*" {
						match = cmd[i+1]
					}
					asked = append(asked, match)
				}
				return "", false
			})
			clean(t, s, cleaning(1<<40, tt.families...), atLevel(ttlpolicy.Force), noTarget, through(p))
			if len(asked) == 0 || slices.ContainsFunc(asked, func(match string) bool { return match != tt.match }) {
				t.Errorf("SCAN was asked to match %q, want %q", asked, tt.match)
			}
		})
	}
}

func TestWhileDeletionsStandStillNoMorePagesAreScannedThanMayWait(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.Proxy(t, s.Addr)
	fill(t, s, writeString, evenly("first:", 40_000, 10*time.Minute, time.Hour, bytesEach(20)))
	// Deletions are held until the canary has been heard so often that a scan would have ended many times over.
	const heard, mayWait = 30, 25
	var pages, pings, most atomic.Int64
	var still sync.Once
	held := make(chan struct{})
	p.Answer(func(cmd []string) (string, bool) {
		switch {
		case strings.EqualFold(cmd[0], "SCAN"):
			pages.Add(1)
		case strings.EqualFold(cmd[0], "PING"):
			if pings.Add(1) == heard+9 {
				most.Store(pages.Load())
				still.Do(func() { close(held) })
			}
		case evictionKeys(cmd) != nil:
			select {
			case <-held:
			case <-t.Context().Done():
			}
		}
		return "", false
	})
	r := clean(t, s, fast, cleaning(1<<40, first), atLevel(ttlpolicy.Force), noTarget, through(p), func(r *janitor.Request) { r.Connection.Workers = 2 })
	expect(t, r, janitor.Evicted, janitor.Exhausted, 0)
	if n := most.Load(); n == 0 || n > mayWait {
		t.Errorf("%d pages were scanned while no key was deleted, want %d at most of %d", n, mayWait, pages.Load())
	}
	if pages.Load() < 2*mayWait {
		t.Errorf("the whole keyspace has %d pages: too few to tell", pages.Load())
	}
}
