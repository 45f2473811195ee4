package receipt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// bufferBytes bounds what is held back of the lines of keys that stay; a batch's lines never are.
const bufferBytes = 64 << 10

// zstdWindow is the longest distance at which zstd finds what repeats. Names repeat at a short one, and
// the writer's memory is a few times this.
const zstdWindow = 256 << 10

// Writer writes a receipt. It may be used by several goroutines. The first error stays: whatever comes
// after it is not written, and is told the same.
type Writer struct {
	mu     sync.Mutex
	file   io.WriteCloser
	sync   func() error
	lines  *bufio.Writer
	packer packer // nil where the file is not compressed
	line   []byte
	err    error
}

// packer compresses. What was written before a Flush can be read whatever becomes of the rest.
type packer interface {
	io.WriteCloser
	Flush() error
}

// Absent refuses a file that is there already, so that no receipt takes the place of another one, and a
// folder that is not there. It says what to do.
func Absent(name string) error {
	switch _, err := os.Lstat(name); {
	case err == nil:
		return fmt.Errorf("%s is there already, and is never written over: give a new name, such as one with the date in it, or move the old one away", name)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: give the name of a file that can be written", err)
	}
	if _, err := os.Stat(filepath.Dir(name)); err != nil {
		return fmt.Errorf("%w: give the name of a file in a folder that exists", err)
	}
	return nil
}

// Create begins a receipt in a new file that only its owner may read, and writes the header. It is
// compressed where its name ends with .gz or .zst.
func Create(name string, h Header) (*Writer, error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin the receipt: %w", err)
	}
	w, err := newWriter(file, file.Sync, name, h)
	if err != nil {
		// Nothing has been decided yet: half a header is of no use, and would be in the way of the next run.
		return nil, errors.Join(err, file.Close(), os.Remove(name))
	}
	return w, nil
}

func newWriter(file io.WriteCloser, sync func() error, name string, h Header) (*Writer, error) {
	w := &Writer{file: file, sync: sync, lines: bufio.NewWriterSize(file, bufferBytes)}
	switch {
	case strings.HasSuffix(name, ".gz"):
		w.packer = gzip.NewWriter(file)
	case strings.HasSuffix(name, ".zst"):
		// One goroutine and no look-ahead: what is written is what a Flush hands on.
		packer, err := zstd.NewWriter(file, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("begin the receipt: %w", err)
		}
		w.packer = packer
	}
	if w.packer != nil {
		w.lines.Reset(w.packer)
	}
	h.Schema = Schema
	text, err := line("header", h)
	if err != nil {
		return nil, err
	}
	w.write(text)
	w.flush()
	return w, w.err
}

// Keep notes a key on which nothing hangs: its line may wait for those of the next batch.
func (w *Writer) Keep(k Key) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.key(&k)
	return w.err
}

// Batch notes what became of a batch, and hands all lines so far to the system.
func (w *Writer) Batch(keys []Key) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range keys {
		w.key(&keys[i])
	}
	w.flush()
	return w.err
}

// Err is the first error of writing, nil where there was none.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close writes the footer and ends the file, on the disk. After an error there is no footer.
func (w *Writer) Close(f Footer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	text, err := line("footer", f)
	if err != nil {
		w.fail(err)
	} else {
		w.write(text)
	}
	w.flush()
	if w.packer != nil && w.err == nil {
		w.fail(w.packer.Close())
	}
	if w.err == nil {
		w.fail(w.sync())
	}
	w.fail(w.file.Close())
	return w.err
}

func (w *Writer) key(k *Key) {
	w.line = appendKey(w.line[:0], k)
	w.write(w.line)
}

func (w *Writer) write(text []byte) {
	if w.err == nil {
		_, err := w.lines.Write(text)
		w.fail(err)
	}
}

func (w *Writer) flush() {
	if w.err == nil {
		w.fail(w.lines.Flush())
	}
	if w.err == nil && w.packer != nil {
		w.fail(w.packer.Flush())
	}
}

func (w *Writer) fail(err error) {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("write the receipt: %w", err)
	}
}
