// Package statefile keeps small files that several processes update: locked, and replaced as a whole,
// so that a reader never sees half of one and no writer loses what another one added.
package statefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const (
	// sizeLimit is far above what is ever written: a larger file is somebody else's.
	sizeLimit = 16 << 20
	// waitForOthers bounds the wait for a lock that is held for milliseconds.
	waitForOthers = 5 * time.Second
)

// Update replaces a file by what change makes of its content, nil where there is no file yet. The
// lock is a file of the same name with ".lock" at its end, which stays. A device, a pipe or a folder
// is refused and left alone.
func Update(ctx context.Context, file string, mode fs.FileMode, change func(old []byte) ([]byte, error)) error {
	lock := flock.New(file + ".lock")
	waiting, cancel := context.WithTimeout(ctx, waitForOthers)
	defer cancel()
	if _, err := lock.TryLockContext(waiting, 10*time.Millisecond); err != nil {
		return fmt.Errorf("lock %s.lock: %w", file, err)
	}
	// The lock ends with the descriptor, whatever closing it says.
	defer func() { _ = lock.Close() }()
	old, err := read(file)
	if err != nil {
		return err
	}
	content, err := change(old)
	if err != nil {
		return err
	}
	return Replace(file, mode, content)
}

func read(name string) ([]byte, error) {
	// Asked before it is opened: opening a pipe would wait for its other end.
	if exists, err := regular(name); !exists || err != nil {
		return nil, err
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, sizeLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(content) > sizeLimit {
		return nil, fmt.Errorf("%s is larger than %d MiB, so it is none of the janitor's: give another name", name, sizeLimit>>20)
	}
	return content, nil
}

// regular refuses what exists and is no regular file.
func regular(name string) (exists bool, err error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%s is no regular file: give a file's name", name)
	}
	return true, nil
}

// Replace writes a file as a whole: it writes beside the file and renames, the content being on the disk before the name is.
// A device, a pipe or a folder is refused: for root, a rename would take the place of /dev/null.
func Replace(name string, mode fs.FileMode, content []byte) error {
	if _, err := regular(name); err != nil {
		return err
	}
	// A name that ends differently from the file's own, so that no collector of *.prom files takes up half of one.
	temp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.tmp")
	if err != nil {
		// Of the file that was asked for, not of the name made up here.
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fmt.Errorf("write %s: %w: give the name of a file in a folder that exists and can be written to", name, err)
	}
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Chmod(mode)
	}
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), os.Remove(temp.Name()))
	}
	return nil
}
