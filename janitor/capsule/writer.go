package capsule

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// outcomeSize is what a block's outcome takes at most besides a byte a key: its frame, the block's number,
// and what zstd adds to content that it cannot make smaller.
const outcomeSize = int64(headSize) + sumSize + 5 + 32

// footerSize is more than a footer takes.
const footerSize = 1 << 10

// file is what a Writer needs of an *os.File.
type file interface {
	Write([]byte) (int, error)
	Seek(offset int64, whence int) (int64, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// Writer fills a capsule. It is safe for concurrent use: the workers of all nodes share one.
type Writer struct {
	path  string
	file  file
	id    ID
	limit int64 // of the file's size; 0: none
	codec *zstd.Encoder

	mu       sync.Mutex
	number   uint32 // of the next frame
	size     int64  // of the whole frames
	reserved int64  // for the outcomes of the blocks that are written, and the footer
	blocks   int64
	keys     int64
	broken   error // why nothing more can be relied on

	syncing sync.Mutex
	synced  int64 // up to where the file is on the disk
}

// Create begins a capsule, readable by its owner only. A file that exists is never written to: the error is
// an fs.ErrExist then. id tells this capsule's frames from any other's; limit bounds the file's size in
// bytes, 0 for no bound.
func Create(path string, header Header, id ID, limit int64) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, &WriteError{path, err}
	}
	w, err := begin(path, f, header, id, limit)
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return nil, &WriteError{path, errors.Join(unwrapped(err), f.Close(), os.Remove(path))}
	}
	return w, nil
}

// unwrapped leaves the path to be said once.
func unwrapped(err error) error {
	var write *WriteError
	if errors.As(err, &write) {
		return write.Err
	}
	return err
}

// syncFolder has the file's name on the disk as well. Windows knows no such thing.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func begin(path string, f file, header Header, id ID, limit int64) (*Writer, error) {
	codec, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("prepare compression: %w", err)
	}
	w := &Writer{path: path, file: f, id: id, limit: limit, codec: codec, reserved: footerSize}
	header.Version = Version
	text, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("write the capsule's header: %w", err)
	}
	w.mu.Lock()
	_, err = w.append(headerFrame, text, len(text), 0)
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return w, w.sync(w.size)
}

// Path is the file's.
func (w *Writer) Path() string { return w.path }

// Totals are the file's size in bytes, and how many keys it holds.
func (w *Writer) Totals() (size, keys int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size, w.keys
}

// Add writes a block. When it returns without an error the block is on the disk, and its keys may be deleted;
// the number is for Settle. The error is ErrFull where there is no room below the limit, and otherwise a
// *WriteError: after one of those, each Add fails.
func (w *Writer) Add(block Block) (number uint32, err error) {
	raw := appendBlock(nil, block)
	packed := w.codec.EncodeAll(raw, nil)
	w.mu.Lock()
	if w.broken != nil {
		err = w.broken
	} else {
		number, err = w.append(blockFrame, packed, len(raw), outcomeSize+int64(len(block.Entries)))
	}
	if err == nil {
		w.blocks++
		w.keys += int64(len(block.Entries))
	}
	end := w.size
	w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return number, w.sync(end)
}

// Settle writes what became of a block's keys. It is on the disk by the next Add or Close: a run that is killed
// before leaves it unknown.
func (w *Writer) Settle(number uint32, fates []Fate) error {
	raw := appendFates(nil, number, fates)
	packed := w.codec.EncodeAll(raw, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reserved -= outcomeSize + int64(len(fates))
	_, err := w.append(outcomeFrame, packed, len(raw), 0)
	return err
}

// Close ends the capsule with a footer. One without a block is removed: there is nothing to put back.
func (w *Writer) Close(footer Footer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.blocks == 0 {
		if err := errors.Join(w.file.Close(), os.Remove(w.path)); err != nil {
			return &WriteError{w.path, err}
		}
		return nil
	}
	footer.Blocks, footer.Keys = w.blocks, w.keys
	text, err := json.Marshal(footer)
	if err == nil {
		w.reserved = 0
		_, err = w.append(footerFrame, text, len(text), 0)
	}
	if err == nil {
		err = w.file.Sync()
	}
	if err = errors.Join(unwrapped(err), w.file.Close()); err != nil {
		return &WriteError{w.path, err}
	}
	return nil
}

// append writes a frame, with the lock held, and sets room aside for what must follow it. A frame that could
// not be written whole is taken back.
func (w *Writer) append(kind frameKind, content []byte, raw int, reserve int64) (number uint32, err error) {
	if len(content) > math.MaxInt32 || raw > math.MaxInt32 {
		return 0, &WriteError{w.path, fmt.Errorf("a block of %d bytes is too large", raw)}
	}
	head := frameHead{id: w.id, kind: kind, number: w.number, stored: uint32(len(content)), raw: uint32(raw)}
	if w.limit > 0 && w.size+head.size()+w.reserved+reserve > w.limit {
		return 0, ErrFull
	}
	frame := head.encode()
	frame = append(frame, content...)
	frame = append(frame, checksum(frame[:headSize], content)...)
	if _, err = w.file.Write(frame); err != nil {
		return 0, w.fail(errors.Join(err, w.takeBack()))
	}
	w.number++
	w.size += int64(len(frame))
	w.reserved += reserve
	return head.number, nil
}

// takeBack cuts off what was written of a frame, so that what follows stands where the last whole frame ends.
func (w *Writer) takeBack() error {
	if err := w.file.Truncate(w.size); err != nil {
		return err
	}
	_, err := w.file.Seek(w.size, 0)
	return err
}

// fail remembers the first failure, with the lock held.
func (w *Writer) fail(err error) error {
	err = &WriteError{w.path, err}
	if w.broken == nil {
		w.broken = err
	}
	return err
}

// sync has the file on the disk up to a size. Workers that wait for each other share one call.
func (w *Writer) sync(size int64) error {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	if w.synced >= size {
		return nil
	}
	w.mu.Lock()
	end, broken := w.size, w.broken
	w.mu.Unlock()
	if broken != nil && end < size {
		return broken
	}
	if err := w.file.Sync(); err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		// What the system could not write it may have dropped: a second try would hide that.
		return w.fail(err)
	}
	w.synced = end
	return nil
}
