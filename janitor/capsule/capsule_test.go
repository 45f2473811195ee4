package capsule

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// disk is a file in memory, with room for so many bytes where that is not below zero.
type disk struct {
	mu       sync.Mutex
	content  []byte
	room     int
	syncs    int
	syncFail error
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.room >= 0 && len(d.content)+len(p) > d.room {
		n := d.room - len(d.content)
		d.content = append(d.content, p[:n]...)
		return n, syscall.ENOSPC
	}
	d.content = append(d.content, p...)
	return len(p), nil
}

func (d *disk) Seek(offset int64, _ int) (int64, error) { return offset, nil }
func (d *disk) Truncate(size int64) error               { d.content = d.content[:size]; return nil }
func (d *disk) Close() error                            { return nil }
func (d *disk) Sync() error                             { d.syncs++; return d.syncFail }

var header = Header{MadeAt: time.UnixMilli(1_700_000_000_000).UTC(), By: "test", Addr: "a:1", RunID: "r", Server: "redis 7.0.15", DB: 3, Policy: "p", SHA256: "s"}

// entryOf makes the i-th key, some with values that repeat themselves and some with none.
func entryOf(i int) Entry {
	e := Entry{Key: "key:" + strconv.Itoa(i) + "\x00\xff", Type: "string", ExpiresAt: int64(1_700_000_000_000 + i), TTL: int64(i), Value: strings.Repeat("value", i%7) + strconv.Itoa(i)}
	if i%5 == 0 {
		e.ExpiresAt, e.TTL = -1, -1
	}
	return e
}

// sample writes blocks of a few keys each; the fates of the last one are not known.
func sample(t testing.TB, blocks int) (file []byte, want []Block) {
	t.Helper()
	d := &disk{room: -1}
	w, err := begin("file", d, header, ID{1, 2, 3}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for b := range blocks {
		block := Block{Addr: "a:1", DB: 3, Family: "family " + strconv.Itoa(b%2)}
		fates := []Fate{}
		for i := range 1 + b%4 {
			block.Entries = append(block.Entries, entryOf(10*b+i))
			fates = append(fates, []Fate{Evicted, 'r', Uncertain, Evicted}[i])
		}
		number, err := w.Add(block)
		if err != nil {
			t.Fatal(err)
		}
		if b < blocks-1 {
			if err := w.Settle(number, fates); err != nil {
				t.Fatal(err)
			}
		}
		want = append(want, block)
	}
	if err := w.Close(Footer{EndedAt: header.MadeAt, Outcome: "evicted", Reason: "exhausted"}); err != nil {
		t.Fatal(err)
	}
	return d.content, want
}

// opened reads a capsule from memory.
func opened(t testing.TB, file []byte) *Capsule {
	t.Helper()
	c, err := Read(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// everything is all the keys that a capsule gives, with their fates.
func everything(t testing.TB, c *Capsule) (entries []Entry, fates []Fate) {
	t.Helper()
	for i := range c.Blocks() {
		block, f, err := c.Block(i)
		if err != nil {
			t.Fatal(err)
		}
		entries, fates = append(entries, block.Entries...), append(fates, f...)
	}
	return entries, fates
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	file, want := sample(t, 9)
	c := opened(t, file)
	if c.Header == nil || c.Footer == nil || len(c.Damage) > 0 || c.DB != 3 || c.Blocks() != len(want) {
		t.Fatalf("%+v", c)
	}
	if h := *c.Header; h.Version != Version || h.Server != header.Server || !h.MadeAt.Equal(header.MadeAt) {
		t.Errorf("header %+v", h)
	}
	keys := 0
	for i, block := range want {
		got, fates, err := c.Block(i)
		if err != nil || !reflect.DeepEqual(got, block) {
			t.Errorf("block %d: %v\n%+v\n%+v", i, err, got, block)
		}
		last := i == len(want)-1
		if known := fates[0] != Unknown; known == last || len(fates) != len(block.Entries) {
			t.Errorf("block %d: fates %q", i, fates)
		}
		keys += len(block.Entries)
	}
	if f := *c.Footer; f.Blocks != int64(len(want)) || f.Keys != int64(keys) || c.Keys() != int64(keys) || f.Outcome != "evicted" {
		t.Errorf("footer %+v, %d keys", f, c.Keys())
	}
	if got := c.Families(); !reflect.DeepEqual(got, []string{"family 0", "family 1"}) {
		t.Errorf("families %q", got)
	}
}

// TestADamagedCapsuleGivesNothingButWholeBlocks flips each bit of each byte, and cuts the file at each length.
func TestADamagedCapsuleGivesNothingButWholeBlocks(t *testing.T) {
	file, _ := sample(t, 5)
	whole := opened(t, file)
	trueEntries, trueFates := everything(t, whole)
	fateOf := map[string]Fate{}
	entryOf := map[string]Entry{}
	for i, e := range trueEntries {
		fateOf[e.Key], entryOf[e.Key] = trueFates[i], e
	}
	expect := func(what string, damaged []byte, least int) {
		t.Helper()
		c, err := Read(bytes.NewReader(damaged), int64(len(damaged)))
		if errors.Is(err, ErrNotCapsule) && least == 0 {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(c.Damage) == 0 && c.Footer != nil && c.Blocks() < whole.Blocks() {
			t.Fatalf("%s: blocks are missing and nobody says so", what)
		}
		entries, fates := everything(t, c)
		for i, e := range entries {
			if e != entryOf[e.Key] {
				t.Fatalf("%s: %+v is wrong", what, e)
			}
			if fates[i] != fateOf[e.Key] && fates[i] != Unknown {
				t.Fatalf("%s: the fate of %q is %q", what, e.Key, fates[i])
			}
		}
		if c.Blocks() < least {
			t.Fatalf("%s: %d blocks are left, want %d: %+v", what, c.Blocks(), least, c.Damage)
		}
	}
	for at := range file {
		for bit := range 8 {
			damaged := bytes.Clone(file)
			damaged[at] ^= 1 << bit
			expect("bit "+strconv.Itoa(bit)+" of byte "+strconv.Itoa(at), damaged, whole.Blocks()-1)
		}
	}
	for size := range len(file) {
		least := 0
		for _, p := range whole.blocks {
			if p.at+p.head.size() <= int64(size) {
				least++
			}
		}
		expect("cut at "+strconv.Itoa(size), file[:size], least)
		c, err := Read(bytes.NewReader(file[:size]), int64(size))
		if err == nil && c.Footer != nil {
			t.Fatalf("cut at %d: it has an end", size)
		}
	}
}

func TestDamageIsNamedByItsPlaceAndWhatIsMissing(t *testing.T) {
	file, _ := sample(t, 6)
	whole := opened(t, file)
	third := whole.blocks[2]
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		from   int64
		frames int64
	}{
		{"a frame that was overwritten", func(b []byte) []byte { clear(b[third.at : third.at+third.head.size()]); return b }, third.at, 1},
		{"a frame that was cut out", func(b []byte) []byte { return append(b[:third.at:third.at], b[third.at+third.head.size():]...) }, third.at, 1},
		{"something in between", func(b []byte) []byte {
			return append(append(bytes.Clone(b[:third.at]), "something else"...), b[third.at:]...)
		}, third.at, 0},
		{"frames of another capsule in between", func(b []byte) []byte {
			d := &disk{room: -1}
			w, err := begin("file", d, header, ID{9}, 0)
			if err == nil {
				_, err = w.Add(Block{Entries: []Entry{{Key: "foreign"}}})
			}
			if err != nil {
				t.Fatal(err)
			}
			return append(append(bytes.Clone(b[:third.at]), d.content...), b[third.at:]...)
		}, third.at, 0},
	} {
		got := opened(t, c.change(bytes.Clone(file)))
		if len(got.Damage) != 1 || got.Damage[0].From != c.from || got.Damage[0].Frames != c.frames || got.Damage[0].Why == "" || got.Footer == nil {
			t.Errorf("%s: %+v", c.name, got.Damage)
		}
		entries, _ := everything(t, got)
		for _, e := range entries {
			if e.Key == "foreign" {
				t.Errorf("%s: %+v", c.name, e)
			}
		}
	}
}

func TestAFileThatIsNoCapsuleIsNone(t *testing.T) {
	for name, content := range map[string]string{"nothing": "", "text": "hello\n", "zeros": string(make([]byte, 1000)), "a lonely marker": marker} {
		if _, err := Read(strings.NewReader(content), int64(len(content))); !errors.Is(err, ErrNotCapsule) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a folder was opened")
	}
}

func TestAnotherFormatIsNamedRatherThanTakenForDamage(t *testing.T) {
	d := &disk{room: -1}
	w := &Writer{path: "file", file: d}
	if _, err := w.append(headerFrame, []byte(`{"version":2,"by":"a later one"}`), 32, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(bytes.NewReader(d.content), int64(len(d.content))); err == nil || !strings.Contains(err.Error(), "format 2") || !strings.Contains(err.Error(), "a later one") {
		t.Error(err)
	}
}

func TestACapsuleNeverTakesThePlaceOfAFileAndIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	w, err := Create(path, header, ID{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, header, ID{}, 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second one: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := w.Close(Footer{}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a capsule without keys is left behind: %v", err)
	}
}

func TestABlockIsOnTheDiskBeforeItsKeysMayGo(t *testing.T) {
	d := &disk{room: -1}
	w, err := begin("file", d, header, ID{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	before := d.syncs
	if _, err := w.Add(Block{Entries: []Entry{entryOf(1)}}); err != nil || d.syncs != before+1 {
		t.Errorf("%v, %d calls of fsync", err, d.syncs-before)
	}
	d.syncFail = errors.New("input/output error")
	var write *WriteError
	if _, err := w.Add(Block{Entries: []Entry{entryOf(2)}}); !errors.As(err, &write) {
		t.Errorf("with a failing disk: %v", err)
	}
	d.syncFail = nil
	if _, err := w.Add(Block{Entries: []Entry{entryOf(3)}}); !errors.As(err, &write) {
		t.Errorf("after a failure: %v: what the system dropped is not known", err)
	}
}

// TestOnAFullDiskEveryBlockThatWasAddedIsThere gives the disk room for each number of bytes up to a whole capsule.
func TestOnAFullDiskEveryBlockThatWasAddedIsThere(t *testing.T) {
	file, _ := sample(t, 4)
	for room := range len(file) {
		d := &disk{room: room}
		w, err := begin("file", d, header, ID{7}, 0)
		if err != nil {
			continue
		}
		var added []Entry
		for i := range 4 {
			e := entryOf(i)
			number, err := w.Add(Block{Family: "f", Entries: []Entry{e}})
			var write *WriteError
			if err != nil && !errors.As(err, &write) {
				t.Fatalf("room for %d: %v", room, err)
			}
			if err == nil {
				added = append(added, e)
				_ = w.Settle(number, []Fate{Evicted}) // what it says is lost with it
			}
		}
		_ = w.Close(Footer{})
		if len(added) == 0 {
			continue
		}
		got, _ := everything(t, opened(t, d.content))
		if !reflect.DeepEqual(got, added) {
			t.Fatalf("room for %d: added %v, found %v", room, added, got)
		}
	}
}

func TestACapsuleStaysBelowItsLimit(t *testing.T) {
	for limit := int64(500); limit < 6000; limit += 97 {
		d := &disk{room: -1}
		w, err := begin("file", d, header, ID{}, limit)
		if errors.Is(err, ErrFull) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var numbers []uint32
		for i := 0; ; i++ {
			number, err := w.Add(Block{Family: "f", Entries: []Entry{entryOf(i), entryOf(i + 1)}})
			if errors.Is(err, ErrFull) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, number)
		}
		// Whatever was admitted can also be settled, and the file be ended.
		for _, number := range numbers {
			if err := w.Settle(number, []Fate{Evicted, 'r'}); err != nil {
				t.Fatal(err)
			}
		}
		if len(numbers) > 0 {
			if err := w.Close(Footer{EndedAt: time.Now(), Outcome: "incomplete", Reason: "capsule_full"}); err != nil {
				t.Fatalf("limit %d: %v", limit, err)
			}
			if c := opened(t, d.content); c.Blocks() != len(numbers) || c.Footer == nil {
				t.Fatalf("limit %d: %d blocks", limit, c.Blocks())
			}
		}
		if int64(len(d.content)) > limit {
			t.Fatalf("limit %d: %d bytes", limit, len(d.content))
		}
	}
}

func TestManyWorkersShareACapsule(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	w, err := Create(path, header, ID{5}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	for hand := range 8 {
		workers.Go(func() {
			for i := range 50 {
				number, err := w.Add(Block{Family: "f", Entries: []Entry{entryOf(1000*hand + i)}})
				if err == nil {
					err = w.Settle(number, []Fate{Evicted})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	if err := w.Close(Footer{}); err != nil {
		t.Fatal(err)
	}
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	entries, fates := everything(t, c)
	seen := map[string]bool{}
	for i, e := range entries {
		seen[e.Key] = true
		if fates[i] != Evicted {
			t.Errorf("the fate of %q is %q", e.Key, fates[i])
		}
	}
	if len(seen) != 400 || len(c.Damage) > 0 || c.Footer == nil {
		t.Errorf("%d keys, %+v", len(seen), c.Damage)
	}
}

func FuzzReadingNeverGivesWhatWasNotWritten(f *testing.F) {
	file, _ := sample(f, 3)
	true3, _ := everything(f, opened(f, file))
	known := map[Entry]bool{}
	for _, e := range true3 {
		known[e] = true
	}
	f.Add(file, uint16(0), byte(0))
	f.Add(file[:len(file)/2], uint16(100), byte(3))
	f.Add(append(bytes.Clone(file[200:]), file...), uint16(7), byte(0x80))
	f.Fuzz(func(t *testing.T, data []byte, at uint16, flip byte) {
		data = bytes.Clone(data)
		if len(data) > 0 {
			data[int(at)%len(data)] ^= flip
		}
		c, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		entries, _ := everything(t, c)
		for _, e := range entries {
			if !known[e] {
				t.Fatalf("%+v was never written", e)
			}
		}
	})
}

func FuzzContentThatDoesNotFitIsRefused(f *testing.F) {
	f.Add(appendBlock(nil, Block{Addr: "a", DB: 1, Family: "f", Entries: []Entry{entryOf(1), entryOf(2)}}))
	f.Add(appendFates(nil, 7, []Fate{Evicted, Unknown}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if block, err := parseBlock(data); err == nil {
			again, err := parseBlock(appendBlock(nil, block))
			if err != nil || !reflect.DeepEqual(again, block) {
				t.Fatalf("%v: %+v became %+v", err, block, again)
			}
		}
		if block, fates, err := parseFates(data); err == nil {
			again, same, err := parseFates(appendFates(nil, block, fates))
			if err != nil || again != block || !reflect.DeepEqual(same, fates) {
				t.Fatalf("%v: %d, %q", err, again, same)
			}
		}
	})
}
