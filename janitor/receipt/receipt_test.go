package receipt

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

var endings = []string{"r.jsonl", "r.jsonl.gz", "r.jsonl.zst"}

// readable is all of a receipt that can be read, however it ends.
func readable(t *testing.T, name string, data []byte) string {
	t.Helper()
	var in io.Reader = bytes.NewReader(data)
	switch {
	case strings.HasSuffix(name, ".gz"):
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		in = unpacked
	case strings.HasSuffix(name, ".zst"):
		unpacked, err := zstd.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		defer unpacked.Close()
		in = unpacked
	}
	text, _ := io.ReadAll(in) // a file that was cut off ends with an error, after all that is whole
	return string(text)
}

func create(t *testing.T, name string) *Writer {
	t.Helper()
	w, err := Create(name, Header{Command: "execute", Version: "1", StartedAt: time.Unix(1, 0).UTC(), Servers: []Server{{"h:1", "abc", 3}}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWhatWasWrittenUpToABatchCanBeReadWhateverComesAfter(t *testing.T) {
	for _, ending := range endings {
		t.Run(ending, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), ending)
			w := create(t, name)
			for batch := range 300 {
				if err := w.Keep(Key{Key: "kept", Family: "f", Outcome: "kept", Reason: "fresh"}); err != nil {
					t.Fatal(err)
				}
				if err := w.Batch([]Key{{Key: "a", Family: "f", Outcome: "evicted"}, {Key: "b", Family: "f", Outcome: "evicted"}}); err != nil {
					t.Fatal(err)
				}
				data, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if text := readable(t, ending, data); strings.Count(text, "\n") != 1+3*(batch+1) || !strings.HasSuffix(text, "}\n") {
					t.Fatalf("after batch %d:\n%s", batch, text)
				}
			}
			if err := w.Close(Footer{Result: "evicted", Totals: map[string]int{"evicted": 600}}); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(readable(t, ending, data), "\n")
			if len(lines) != 903 || !strings.HasPrefix(lines[0], `{"type":"header","schema":"redis-janitor/receipt/v1",`) ||
				!strings.HasPrefix(lines[901], `{"type":"footer",`) || strings.Contains(lines[901], `"outcome"`) {
				t.Errorf("%d lines, from %s to %s", len(lines), lines[0], lines[len(lines)-2])
			}
		})
	}
}

func TestAReceiptNeverTakesThePlaceOfAFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "r.jsonl")
	if err := Absent(name); err != nil {
		t.Errorf("a name that is free: %v", err)
	}
	w := create(t, name)
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v (%v), want 0600", info.Mode(), err)
	}
	before, _ := os.ReadFile(name)
	if err := Absent(name); err == nil || !strings.Contains(err.Error(), "new name") {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := Create(name, Header{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("creating over a file: %v", err)
	}
	if after, _ := os.ReadFile(name); !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
	if err := Absent(filepath.Join(dir, "none", "r.jsonl")); err == nil {
		t.Error("a folder that is not there was found fit")
	}
	if err := w.Close(Footer{}); err != nil {
		t.Error(err)
	}
}

// full is a disk with so much room.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		n := f.room
		f.room = 0
		return n, errors.New("no space left on device")
	}
	f.room -= len(p)
	return len(p), nil
}

func (*full) Close() error { return nil }

func TestAfterTheFirstErrorNothingIsWrittenAndAllAreTold(t *testing.T) {
	for _, ending := range endings {
		disk := &full{room: 1000}
		w, err := newWriter(disk, func() error { return nil }, ending, Header{})
		if err != nil {
			t.Fatal(err)
		}
		batches := 0
		for ; err == nil; batches++ {
			if batches > 10000 {
				t.Fatalf("%s: a full disk was never told", ending)
			}
			err = w.Batch([]Key{{Key: "key", Family: "f", Outcome: "evicted", Age: time.Duration(batches)}})
		}
		disk.room = 1000
		first := err
		if err := w.Keep(Key{}); !errors.Is(err, first) {
			t.Errorf("%s: keeping after an error: %v", ending, err)
		}
		if err := w.Close(Footer{}); !errors.Is(err, first) || !errors.Is(w.Err(), first) {
			t.Errorf("%s: closing after an error: %v", ending, err)
		}
		if disk.room != 1000 {
			t.Errorf("%s: %d bytes were written after the error", ending, 1000-disk.room)
		}
		if _, err := newWriter(&full{}, nil, ending, Header{}); err == nil {
			t.Errorf("%s: a header that cannot be written was no error", ending)
		}
	}
}

func TestNoFileStaysWhereTheHeaderCannotBeWritten(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r")
	if _, err := Create(name, Header{StartedAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Fatal("a year beyond RFC 3339 was written")
	}
	if err := Absent(name); err != nil {
		t.Error(err)
	}
}

func TestAKeysLineHasWhatIsKnownAndNothingElse(t *testing.T) {
	for want, k := range map[string]Key{
		`{"type":"key","key":"k","family":"f","outcome":"evicted","reason":"older_than","bytes":0,"ttl_ms":0,"age_ms":1500}`: {
			Key: "k", Family: "f", Outcome: "evicted", Reason: "older_than", Age: 1500 * time.Millisecond},
		`{"type":"key","key":"k","family":"f","outcome":"evicted","reason":"no_ttl","bytes":72,"ttl_ms":-1}`: {
			Key: "k", Family: "f", Outcome: "evicted", Reason: "no_ttl", Age: -1, TTL: -1, Bytes: 72},
		`{"type":"key","key_base64":"/w==","family":"f","outcome":"vanished"}`: {Key: "\xff", Family: "f", Outcome: "vanished", Age: -1, TTL: -2, Bytes: -1},
	} {
		if got := string(appendKey(nil, &k)); got != want+"\n" {
			t.Errorf("%+v is\n%swant\n%s", k, got, want)
		}
	}
}

func FuzzAKeyComesBackExactly(f *testing.F) {
	for _, s := range []string{"", "a", "\xff", "\"\\\n\x00\x7f", "\u2028\u202e", "日本語", "\U0001f600\U000e0001", "�", "</script>", "%s"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, key, family string) {
		text := appendKey(nil, &Key{Key: key, Family: strings.ToValidUTF8(family, "?"), Outcome: "kept", Age: -1, TTL: -3, Bytes: -1})
		var read struct {
			Key       *string `json:"key"`
			KeyBase64 *string `json:"key_base64"`
			Family    string  `json:"family"`
		}
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var got string
		if read.KeyBase64 != nil {
			raw, err := base64.StdEncoding.DecodeString(*read.KeyBase64)
			if err != nil || utf8.Valid(raw) {
				t.Fatalf("%q: base64 of what needs none, or none at all: %v", text, err)
			}
			got = string(raw)
		} else {
			got = *read.Key
		}
		if got != key || read.Family != strings.ToValidUTF8(family, "?") {
			t.Errorf("%q came back as %q of family %q", key, got, read.Family)
		}
		if strings.ContainsFunc(strings.TrimSuffix(string(text), "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q would act on a terminal", text)
		}
	})
}

func BenchmarkKeyLines(b *testing.B) {
	for _, ending := range endings {
		b.Run(ending, func(b *testing.B) {
			w, err := newWriter(struct {
				io.Writer
				io.Closer
			}{bufio.NewWriter(io.Discard), io.NopCloser(nil)}, func() error { return nil }, ending, Header{})
			if err != nil {
				b.Fatal(err)
			}
			batch := make([]Key, 100)
			for i := range batch {
				batch[i] = Key{Key: "ml_results:1:ml_classification:0123456789abcdef", Family: "ml-results", Outcome: "evicted", Reason: "older_than", TTL: 4000, Bytes: 600}
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Batch(batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
