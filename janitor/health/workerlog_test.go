package health

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// noon is the moment at which the logs of these tests are read.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func boots(t *testing.T, log string) (int, error) {
	t.Helper()
	return countBoots(t.Context(), log, noon.Add(-time.Hour), noon)
}

func mustCount(t *testing.T, log string, want int) {
	t.Helper()
	if got, err := boots(t, log); err != nil || got != want {
		t.Errorf("%d boots (%v), want %d", got, err, want)
	}
}

func logged(at time.Time, message string) string {
	return fmt.Sprintf("[%s] [4711] [INFO] %s\n", at.Format("2006-01-02 15:04:05 -0700"), message)
}

// booted is a worker's boot so long before noon.
func booted(ago time.Duration) string { return logged(noon.Add(-ago), "Booting worker with pid: 4712") }

// keep writes a file that was last written at noon.
func keep(t *testing.T, name, content string) string {
	t.Helper()
	if strings.HasSuffix(name, ".gz") {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		content = packed.String()
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	touch(t, name, noon)
	return name
}

func touch(t *testing.T, name string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
}

func newLog(t *testing.T) string { return filepath.Join(t.TempDir(), "server.log") }

func TestBootsOfTheLastHourAreCounted(t *testing.T) {
	berlin := time.FixedZone("", 2*60*60)
	mustCount(t, keep(t, newLog(t), strings.Join([]string{
		logged(noon.Add(-3*time.Hour), "Starting gunicorn 23.0.0"),
		booted(2 * time.Hour),
		booted(61 * time.Minute),
		booted(60 * time.Minute), // counts: the hour's first moment
		logged(noon.Add(-50*time.Minute), "Worker exiting (pid: 4712)"),
		"Traceback (most recent call last):\n  File \"app.py\", line 1\n",
		strings.TrimSuffix(booted(40*time.Minute), "\n") + "\r\n", // counts
		logged(noon.Add(-30*time.Minute), "user wrote: Booting worker with pid: 1"),
		"  quoted: " + booted(25*time.Minute),
		logged(noon.Add(-20*time.Minute).In(berlin), "Booting worker with pid: 4713"), // counts: the same clock elsewhere
		logged(noon.Add(20*time.Minute), "Booting worker with pid: 4714"),             // of a clock that is wrong
		strings.TrimSuffix(booted(0), "\n"),                                           // counts: no newline yet
	}, "")), 4)
}

func TestALogIsReadFromItsEndAcrossChunksAndLongLines(t *testing.T) {
	var log strings.Builder
	log.WriteString(booted(2 * time.Hour))
	want := 0
	for i := range 500 {
		// Lines of all lengths put the chunks' borders at every place of a line, some inside of several chunks' length.
		log.WriteString(logged(noon.Add(-59*time.Minute), strings.Repeat("x", i*17%3000)))
		if i%100 == 50 {
			log.WriteString(logged(noon.Add(-58*time.Minute), strings.Repeat("y", 3*chunk+i)))
		}
		log.WriteString(booted(50*time.Minute - time.Duration(i)*time.Second))
		want++
	}
	mustCount(t, keep(t, newLog(t), log.String()), want)
}

func TestEveryPlaceOfAChunksBorderCountsTheSame(t *testing.T) {
	log := newLog(t)
	lines := booted(30*time.Minute) + booted(20*time.Minute)
	for shift := range len(lines) + 2 {
		filler := logged(noon, strings.Repeat("z", chunk-shift))
		keep(t, log, lines+filler)
		mustCount(t, log, 2)
	}
}

func TestAHugeLogCostsNoMoreThanItsLastHour(t *testing.T) {
	log := newLog(t)
	// 3 GiB of nothing, as a sparse file: whoever reads them is found out by the time and by the missing stamps.
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("\n"+booted(2*time.Hour)+booted(time.Minute)), 3<<30); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	touch(t, log, noon)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	mustCount(t, log, 1)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes were allocated for two lines", grown)
	}
}

func TestManyLinesWithinTheHourTakeBoundedMemory(t *testing.T) {
	log := newLog(t)
	line := logged(noon.Add(-time.Minute), strings.Repeat("q", 200))
	keep(t, log, strings.Repeat(line, (16<<20)/len(line))+booted(0))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	mustCount(t, log, 1)
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 16<<20 {
		t.Errorf("%d bytes were allocated for a log of 16 MiB", grown)
	}
}

func TestRotatedLogsAreReadAsFarBackAsTheHour(t *testing.T) {
	old := booted(3 * time.Hour)
	for name, files := range map[string]map[string]string{
		"plain":                {"": booted(5 * time.Minute), ".1": old + booted(30*time.Minute)},
		"compressed":           {"": booted(5 * time.Minute), ".1.gz": old + booted(30*time.Minute)},
		"several":              {"": "", ".1": booted(5 * time.Minute), ".2.gz": booted(30 * time.Minute), ".3.gz": old},
		"in the very moment":   {".1": old + booted(30*time.Minute) + booted(5*time.Minute)},
		"the last one old":     {"": old + booted(30*time.Minute) + booted(5*time.Minute), ".1.gz": booted(29 * time.Minute)}, // cannot be, and shows whether it is read
		"half a traceback":     {"": "  File \"app.py\"\nValueError\n", ".1": old + booted(30*time.Minute) + booted(5*time.Minute)},
		"a gap ends the chain": {"": booted(30*time.Minute) + booted(5*time.Minute), ".2": booted(31 * time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			log := newLog(t)
			for suffix, content := range files {
				keep(t, log+suffix, content)
			}
			mustCount(t, log, 2)
		})
	}
}

func TestALogThatWasNotWrittenWithinTheHourHasNoBoots(t *testing.T) {
	log := keep(t, newLog(t), "not a line of gunicorn's\n")
	touch(t, log, noon.Add(-2*time.Hour))
	mustCount(t, log, 0)
	mustCount(t, keep(t, newLog(t), ""), 0)
}

func TestALogThatIsRotatedWhileItIsReadCountsOnce(t *testing.T) {
	log := keep(t, newLog(t), booted(5*time.Minute))
	if err := os.Link(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	mustCount(t, log, 1)
}

func TestALogThatTellsNoTimesIsUnknownRatherThanQuiet(t *testing.T) {
	for name, content := range map[string]string{
		"another format": "2026-11-23 11:59:00 INFO Booting worker with pid: 1\n",
		"an access log":  `10.0.0.1 - - [23/Nov/2026:11:59:02 +0000] "GET / HTTP/1.1" 200` + "\n",
		"one long line":  strings.Repeat("x", 2<<20),
		"large":          booted(3*time.Hour) + strings.Repeat("no time here\n", 200_000),
	} {
		for _, suffix := range []string{"", ".1.gz"} {
			log := newLog(t)
			keep(t, log+suffix, content)
			if _, err := boots(t, log); !errors.Is(err, errUnstamped) {
				t.Errorf("%s%s: %v", name, suffix, err)
			}
		}
	}
}

func TestALogThatCannotBeReadIsAnError(t *testing.T) {
	if _, err := boots(t, newLog(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing log: %v", err)
	}
	if _, err := boots(t, t.TempDir()); err == nil {
		t.Error("a folder was read")
	}
	pipe := newLog(t)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := boots(t, pipe); err == nil { // and it does not wait for a writer
		t.Error("a pipe was read")
	}
	log := newLog(t)
	keep(t, log, booted(time.Minute))
	if err := os.WriteFile(log+".1.gz", []byte("this is no gzip archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	touch(t, log+".1.gz", noon)
	if _, err := boots(t, log); !errors.Is(err, gzip.ErrHeader) {
		t.Errorf("a broken archive: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := countBoots(ctx, log, noon.Add(-time.Hour), noon); !errors.Is(err, context.Canceled) {
		t.Errorf("a check that was stopped: %v", err)
	}
}

func FuzzReadingBackwardsCountsWhatReadingForwardsDoes(f *testing.F) {
	f.Add([]byte(booted(5*time.Minute)+"x\n\n"+booted(10*time.Minute)), uint8(3))
	f.Add([]byte("\n[2026-11-23 11:59:02 +0000] [1] [INFO] Booting worker with pid: 1"), uint8(40))
	f.Fuzz(func(t *testing.T, log []byte, repeat uint8) {
		log = bytes.Repeat(log, int(repeat)+1)
		// With everything within the window no line ends the reading early.
		window := bootCount{from: time.Unix(-1<<40, 0), until: time.Unix(1<<40, 0)}
		forwards, backwards := window, window
		for line := range bytes.Lines(log) {
			forwards.line(head(bytes.TrimSuffix(line, []byte("\n")), nil))
		}
		err := backwards.backwards(t.Context(), bytes.NewReader(log), int64(len(log)))
		if err != nil && !errors.Is(err, errUnstamped) {
			t.Fatal(err)
		}
		if err == nil && (backwards.boots != forwards.boots || backwards.stamped != forwards.stamped || backwards.text != forwards.text) {
			t.Errorf("backwards %+v, forwards %+v", backwards, forwards)
		}
	})
}
