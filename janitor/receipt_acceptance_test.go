package janitor_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// note is a line of a receipt.
type note struct {
	Type      string          `json:"type"`
	Key       string          `json:"key"`
	KeyBase64 []byte          `json:"key_base64"`
	Family    string          `json:"family"`
	Outcome   string          `json:"outcome"`
	Reason    string          `json:"reason"`
	Bytes     *int64          `json:"bytes"`
	TTL       *int64          `json:"ttl_ms"`
	Age       *int64          `json:"age_ms"`
	Result    string          `json:"result"`
	ExitCode  int             `json:"exit_code"`
	Totals    *janitor.Totals `json:"totals"`
}

func (n note) key() string { return n.Key + string(n.KeyBase64) }

func intoReceipt(file string) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Receipt = file }
}

// notes are the lines of a receipt that are whole, all of them where its run came to its end.
func notes(t *testing.T, file string, whole bool) []note {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var in io.Reader = bytes.NewReader(data)
	switch filepath.Ext(file) {
	case ".gz":
		if in, err = gzip.NewReader(in); err != nil {
			t.Fatal(err)
		}
	case ".zst":
		unpacked, err := zstd.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		defer unpacked.Close()
		in = unpacked
	}
	text, err := io.ReadAll(in)
	if whole && err != nil {
		t.Fatal(err)
	}
	var all []note
	for line := range bytes.Lines(text) {
		var n note
		if err := json.Unmarshal(line, &n); err != nil {
			if whole || bytes.HasSuffix(line, []byte("\n")) {
				t.Fatalf("%q: %v", line, err)
			}
			break // the line on which it was killed
		}
		all = append(all, n)
	}
	if whole && (all[0].Type != "header" || all[len(all)-1].Type != "footer") {
		t.Fatalf("it begins with %+v and ends with %+v", all[0], all[len(all)-1])
	}
	return all
}

// lastWords is what a receipt says in the end of each key, and how many it says it of by family, outcome and reason.
func lastWords(all []note) (of map[string]note, counts map[string]int64) {
	of, counts = map[string]note{}, map[string]int64{}
	for _, n := range all {
		if n.Type == "key" {
			of[n.key()] = n
		}
	}
	for _, n := range of {
		if n.Outcome == "kept" {
			counts[n.Family+" "+n.Reason]++
		} else {
			counts[n.Family+" "+n.Outcome]++
		}
	}
	return of, counts
}

// counted is what a report says, in the form of lastWords.
func counted(t *testing.T, r *janitor.Report) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	for _, n := range r.Nodes {
		for _, f := range n.Families {
			for outcome, n := range map[string]int64{"evicted": f.Evicted, "refreshed": f.Refreshed, "vanished": f.Vanished, "failed": f.Failed, "uncertain": f.Uncertain} {
				counts[f.Name+" "+outcome] += n
			}
			text, err := json.Marshal(f.Kept)
			if err != nil {
				t.Fatal(err)
			}
			kept := map[string]int64{}
			if err := json.Unmarshal(text, &kept); err != nil {
				t.Fatal(err)
			}
			for reason, n := range kept {
				counts[f.Name+" "+reason] += n
			}
		}
	}
	maps.DeleteFunc(counts, func(_ string, n int64) bool { return n == 0 })
	return counts
}

func TestEachKeyDecidedOnHasItsLineAndADryRunsAreTheSame(t *testing.T) {
	inBothWays(t, func(t *testing.T, all func(*janitor.Request)) {
		s := redistest.Start(t)
		c := s.Client()
		plantAll(t, c, 2)
		before := redistest.Snapshot(t.Context(), c)
		dry, wet := filepath.Join(t.TempDir(), "dry.jsonl.gz"), filepath.Join(t.TempDir(), "wet.jsonl.zst")
		rehearsed := clean(t, s, command(janitor.DryRun), atLevel(ttlpolicy.Force), protectPinned, calm, all, intoReceipt(dry))
		evicted := clean(t, s, atLevel(ttlpolicy.Force), protectPinned, calm, all, intoReceipt(wet))
		expect(t, evicted, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
		left := allKeys(t, c)

		would, counts := lastWords(notes(t, dry, true))
		if want := counted(t, rehearsed); !maps.Equal(counts, want) {
			t.Errorf("the dry run's lines add up to %v, its report to %v", counts, want)
		}
		lines := notes(t, wet, true)
		did, counts := lastWords(lines)
		if want := counted(t, evicted); !maps.Equal(counts, want) {
			t.Errorf("the lines add up to %v, the report to %v", counts, want)
		}
		if len(did) != len(lines)-2 {
			t.Errorf("%d lines for %d keys", len(lines)-2, len(did))
		}
		for key, n := range did {
			was, known := before[key]
			family, _ := belongs(key)
			if !known || n.Family != family || left[key] == (n.Outcome == "evicted") {
				t.Fatalf("%+v: known %t, of family %q, left %t", n, known, family, left[key])
			}
			if n.Outcome == "evicted" && (n.Bytes == nil || *n.Bytes <= 0 || n.TTL == nil || (*n.TTL == -1) != (n.Reason == "no_ttl") || (*n.TTL == -1) != (n.Age == nil)) {
				t.Fatalf("%q went, and the line is %+v (%+v)", key, n, was)
			}
			if dry := would[key]; dry.Outcome != n.Outcome || dry.Reason != n.Reason || (dry.Bytes == nil) != (n.Bytes == nil) || n.Bytes != nil && *dry.Bytes != *n.Bytes {
				t.Fatalf("%q: the dry run says %+v, the run %+v", key, dry, n)
			}
		}
		for key := range before {
			if family, _ := belongs(key); family != "" && did[key].Type == "" {
				t.Fatalf("%q has no line", key)
			}
		}
		if footer := lines[len(lines)-1]; footer.Result != "evicted" || footer.ExitCode != 0 || footer.Totals == nil || *footer.Totals != evicted.Totals {
			t.Errorf("the footer is %+v, and the report's totals %+v", footer, evicted.Totals)
		}
	})
}

func TestWhereTheWaterlineIsRaisedAKeysLastLineTells(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plant(t, c, func(p *planter) {
		for i := range 60_000 {
			p.set("ml_results:"+md5Of(i), mlAges.ttl(i))
		}
	})
	file := filepath.Join(t.TempDir(), "r.jsonl")
	r := clean(t, s, atLevel(ttlpolicy.Force), atRatio(t, c, 0.78), calm, intoReceipt(file))
	expect(t, r, janitor.Evicted, janitor.TargetReached, janitor.ExitDone)
	if r.Nodes[0].Walks < 2 || r.Nodes[0].Families[0].Kept.AboveWaterline == 0 {
		t.Fatalf("that shows nothing: %+v", r.Nodes[0])
	}
	lines := notes(t, file, true)
	of, counts := lastWords(lines)
	if want := counted(t, r); !maps.Equal(counts, want) || len(of) == len(lines)-2 {
		t.Errorf("%d lines of %d keys come to %v, the report to %v", len(lines)-2, len(of), counts, want)
	}
	left := allKeys(t, c)
	for key, n := range of {
		if left[key] == (n.Outcome == "evicted") {
			t.Fatalf("%+v, and left is %t", n, left[key])
		}
	}
}

func TestAKilledRunsReceiptIsTrueAndAtMostABatchOfEachWorkerBehind(t *testing.T) {
	const kills, workers, batch = 24, 2, 100
	binary, lockDir, dir := build(t), t.TempDir(), t.TempDir()
	s := redistest.Start(t)
	c := s.Client()
	random := rand.New(rand.NewPCG(3, 5))
	halfway := 0
	for i := range kills {
		do(t, c, []any{"FLUSHDB"})
		plant(t, c, func(p *planter) {
			for i := range 3000 {
				p.set("ml_results:"+md5Of(i), mlAges.ttl(i))
			}
		})
		before := allKeys(t, c)
		file := filepath.Join(dir, strconv.Itoa(i)+[]string{".jsonl", ".gz", ".zst"}[i%3])
		p := start(t, binary, s.Addr, lockDir, "--ignore-cooldown", "--max-rate", "10000", "--receipt", file)
		for began := time.Now(); ; { // its first line is there before its first deletion
			if info, err := os.Stat(file); err == nil && info.Size() > 0 {
				break
			}
			if time.Since(began) > time.Minute {
				t.Fatal("it never began")
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(random.IntN(250_000)) * time.Microsecond)
		p.Process.Kill()
		p.Wait()
		left := allKeys(t, c)
		all := notes(t, file, false)
		if len(all) == 0 && len(left) >= len(before) {
			continue // killed while it wrote the first line
		}
		if len(all) == 0 || all[0].Type != "header" {
			t.Fatalf("%s has no header: %+v", file, all)
		}
		told := 0
		of, _ := lastWords(all)
		for key, n := range of {
			if gone := before[key] && !left[key]; gone != (n.Outcome == "evicted") {
				t.Fatalf("%s: %+v, and gone is %t", file, n, gone)
			}
			if n.Outcome == "evicted" {
				told++
			}
		}
		gone := 0
		for key := range before {
			if !left[key] {
				gone++
			}
		}
		if gone-told > workers*batch {
			t.Errorf("%s: %d keys are gone and %d are told of", file, gone, told)
		}
		if gone > 0 && all[len(all)-1].Type != "footer" {
			halfway++
		}
		do(t, c, []any{"DEL", leaseKey, cooldownKey})
	}
	t.Logf("%d of %d were killed half-way", halfway, kills)
	if halfway < kills/4 {
		t.Error("that shows little")
	}
}

// full runs a program on a disk that has so many blocks of 512 bytes left.
func full(blocks int, p *process) *process {
	p.Cmd = exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -f %d && exec "$@"`, blocks), "sh", p.Path}, p.Args[1:]...)...)
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	return p
}

func TestARunThatCannotBeRecordedDeletesNoFurtherBatch(t *testing.T) {
	binary := build(t)
	for ending, most := range map[string]int64{".jsonl": 200, ".gz": 2000, ".zst": 2000} {
		t.Run(ending, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			plant(t, c, func(p *planter) {
				for i := range 5000 {
					p.set("ml_results:"+md5Of(i), mlAges.ttl(i))
				}
			})
			file := filepath.Join(t.TempDir(), "r"+ending)
			p := full(32, prepare(binary, s.Addr, t.TempDir(), "--receipt", file))
			p.Env = []string{"TMPDIR=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			r := p.end(t)
			expect(t, r, janitor.Failed, "file", janitor.ExitFailed)
			gone := 5000 - countKeys(t, c, "ml_results:*")
			_, counts := lastWords(notes(t, file, false))
			told := counts["ml-results evicted"]
			if r.Totals.Evicted != gone || gone == 0 || gone == 5000 || gone-told > most {
				t.Errorf("%d keys are gone, the report says %d and the receipt %d", gone, r.Totals.Evicted, told)
			}
			if !strings.Contains(r.Message, "keys had been evicted") || r.Hint == "" {
				t.Errorf("%q, %q", r.Message, r.Hint)
			}
		})
	}
	t.Run("before anything is deleted", func(t *testing.T) {
		s := redistest.Start(t)
		plantSome(t, s.Client())
		before := dbSize(t, s.Client())
		file := filepath.Join(t.TempDir(), "r.jsonl")
		p := full(0, prepare(binary, s.Addr, t.TempDir(), "--receipt", file))
		p.Env = []string{"TMPDIR=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		expect(t, p.end(t), janitor.Failed, "file", janitor.ExitNoServer)
		if now := dbSize(t, s.Client()); now != before {
			t.Errorf("there were %d keys, and there are %d", before, now)
		}
		if _, err := os.Stat(file); err == nil {
			t.Error("half a header stays in the way of the next run")
		}
	})
}

func TestAReceiptIsRefusedWhereAFileIsAndMadeOnlyWhereKeysAreDecidedOn(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	plantSome(t, c)
	before := redistest.Snapshot(t.Context(), c)
	taken, none := filepath.Join(t.TempDir(), "taken"), filepath.Join(t.TempDir(), "none", "r")
	if err := os.WriteFile(taken, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []janitor.Command{janitor.DryRun, janitor.Execute} {
		for _, file := range []string{taken, none} {
			// At level ok, too: an earlier step's word stands.
			for _, level := range []ttlpolicy.Level{ttlpolicy.OK, ttlpolicy.Force} {
				r := clean(t, s, func(r *janitor.Request) { r.Command = command }, atLevel(level), calm, noTarget, intoReceipt(file))
				expect(t, r, janitor.Refused, janitor.Guard, janitor.ExitRefused)
			}
		}
	}
	if text, _ := os.ReadFile(taken); string(text) != "mine" {
		t.Errorf("the file holds %q", text)
	}
	fresh := filepath.Join(t.TempDir(), "fresh")
	for _, changes := range [][]func(*janitor.Request){{}, {atLevel(ttlpolicy.Force), activeUsers(100)}} {
		r := clean(t, s, slices.Concat([]func(*janitor.Request){noTarget, ignoreCooldown, intoReceipt(fresh)}, changes)...)
		if _, err := os.Stat(fresh); err == nil {
			t.Errorf("a run that ended with %s (%s) left a receipt in the way of the next one", r.Outcome, r.Reason)
		}
	}
	for name, key := range redistest.Snapshot(t.Context(), c) {
		if before[name] != key {
			t.Errorf("%q was changed", name)
		}
	}
}

func TestARestoreThatCannotBeRecordedPutsBackNoFurtherBatch(t *testing.T) {
	binary := build(t)
	s := redistest.Start(t)
	c := s.Client()
	plant(t, c, func(p *planter) {
		for i := range 5000 {
			p.set("ml_results:"+md5Of(i), 30*time.Minute)
		}
	})
	file := filepath.Join(t.TempDir(), "capsule")
	expect(t, clean(t, s, atLevel(ttlpolicy.Force), noTarget, calm, func(r *janitor.Request) { r.Capsule, r.CapsuleMaxValue = file, janitor.CapsuleValue }), janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	for _, disk := range []struct{ blocks, exit int }{{0, janitor.ExitNoServer}, {64, janitor.ExitFailed}} {
		written := filepath.Join(t.TempDir(), "r.jsonl")
		p := &process{Cmd: exec.Command(binary, "restore", file, "-u", s.URL(), "-o", "json", "--yes", "--receipt", written)}
		p = full(disk.blocks, p)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		expect(t, p.end(t), janitor.Failed, "file", disk.exit)
		back := countKeys(t, c, "ml_results:*")
		if disk.blocks == 0 {
			if back != 0 {
				t.Errorf("%d keys came back without a record", back)
			}
			continue
		}
		told := int64(0)
		for _, n := range notes(t, written, false) {
			if n.Outcome == "restored" {
				told++
			}
		}
		if back == 0 || back == 5000 || back-told > 1000 {
			t.Errorf("%d keys are back and %d are told of", back, told)
		}
	}
}
