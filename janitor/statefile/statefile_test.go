package statefile_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"

	"redis-janitor/janitor/statefile"
)

func TestNoWriterLosesWhatAnotherOneAdded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "count")
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 25 {
				err := statefile.Update(t.Context(), file, 0o600, func(old []byte) ([]byte, error) {
					n := 0
					if old != nil {
						var err error
						if n, err = strconv.Atoi(string(old)); err != nil {
							return nil, err
						}
					}
					return []byte(strconv.Itoa(n + 1)), nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if got, err := os.ReadFile(file); err != nil || string(got) != "100" {
		t.Errorf("counted to %s (%v), want 100", got, err)
	}
}

func TestTheFileIsReplacedAsAWholeWithItsMode(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "janitor.prom")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	write(t, file, "new")
	seen := make([]byte, 10)
	if n, err := before.Read(seen); err != nil || string(seen[:n]) != "old" {
		t.Errorf("a reader that had the file open saw %q (%v): it was written over", seen[:n], err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v (%v), want 0644", info.Mode(), err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.prom"))
	if err != nil || len(found) != 1 {
		t.Errorf("a collector would find %v (%v)", found, err)
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := statefile.Update(t.Context(), file, 0o644, func([]byte) ([]byte, error) { return []byte(content), nil }); err != nil {
		t.Fatal(err)
	}
}

func TestAFolderThatIsNotThereIsNamedByTheFileAskedFor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none", "f")
	err := statefile.Replace(file, 0o600, nil)
	if want := "write " + file + ": no such file or directory: give the name of a file in a folder that exists and can be written to"; !errors.Is(err, fs.ErrNotExist) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestAChangeThatFailsLeavesTheFileAsItWas(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	write(t, file, "old")
	wrong := errors.New("wrong")
	if err := statefile.Update(t.Context(), file, 0o644, func([]byte) ([]byte, error) { return nil, wrong }); !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "old" {
		t.Errorf("the file holds %q (%v)", got, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("beside the file and its lock there is more: %v (%v)", entries, err)
	}
}

func TestWhatIsNoRegularFileIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	device := filepath.Join(dir, "null")
	if err := os.Symlink(os.DevNull, device); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{device, folder} {
		err := statefile.Update(t.Context(), name, 0o644, func([]byte) ([]byte, error) {
			t.Errorf("%s was asked to change", name)
			return nil, nil
		})
		if err == nil || !strings.Contains(err.Error(), "regular file") {
			t.Errorf("%s: %v", name, err)
		}
		if err := statefile.Replace(name, 0o600, []byte("new")); err == nil || !strings.Contains(err.Error(), "regular file") {
			t.Errorf("replacing %s: %v", name, err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().IsRegular() {
			t.Errorf("%s became a regular file (%v)", name, err)
		}
	}
}

func TestAHugeFileIsSomebodyElses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "huge")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 16<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	err := statefile.Update(t.Context(), file, 0o644, func([]byte) ([]byte, error) { return []byte("new"), nil })
	if err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("got %v", err)
	}
}

func TestALockThatIsHeldEndsWithTheContext(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	lock := flock.New(file + ".lock")
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	defer lock.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := statefile.Update(ctx, file, 0o644, func([]byte) ([]byte, error) { return []byte("new"), nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it was written without the lock")
	}
}
