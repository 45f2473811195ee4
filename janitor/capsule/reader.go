package capsule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Capsule is a file that can be read, as far as it is whole.
type Capsule struct {
	Header *Header // nil where it is damaged
	Footer *Footer // nil where the run was killed, or the file cut short
	Size   int64   // of the file in bytes
	Damage []Damage

	// DB is the number of the database that the keys were in, as each block says it too.
	DB int

	source   io.ReaderAt
	closer   io.Closer
	codec    *zstd.Decoder
	blocks   []place
	keys     int64
	families []string
	fates    map[uint32][]Fate
}

// place is where a block stands.
type place struct {
	at   int64
	head frameHead
}

// Damage is a piece of the file that cannot be read.
type Damage struct {
	From int64 `json:"from_byte"`
	To   int64 `json:"to_byte"` // behind its last byte
	// Frames is how many frames are missing there, by their numbers; 0 where that can't be told.
	Frames int64  `json:"frames"`
	Why    string `json:"why"`
}

// Open opens a capsule and looks at every frame. The error is ErrNotCapsule where it finds not one; damage is no
// error.
func Open(path string) (*Capsule, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("it is no regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	c, err := Read(f, info.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.Close())
	}
	c.closer = f
	return c, nil
}

// Read looks at every frame of a capsule of a known size.
func Read(source io.ReaderAt, size int64) (*Capsule, error) {
	codec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("prepare decompression: %w", err)
	}
	c := &Capsule{Size: size, source: source, codec: codec, fates: map[uint32][]Fate{}}
	if err := c.index(); err != nil {
		codec.Close()
		return nil, err
	}
	return c, nil
}

// Close closes the file.
func (c *Capsule) Close() error {
	c.codec.Close()
	if c.closer == nil {
		return nil
	}
	return c.closer.Close()
}

// Blocks is how many whole blocks there are.
func (c *Capsule) Blocks() int { return len(c.blocks) }

// Keys is how many keys the whole blocks hold.
func (c *Capsule) Keys() int64 { return c.keys }

// Families are those that the whole blocks have keys of.
func (c *Capsule) Families() []string { return c.families }

// Block reads the i-th whole block, and the fates of its keys, Unknown where none were written. An error means
// that the file has changed since it was opened, or cannot be read any more.
func (c *Capsule) Block(i int) (Block, []Fate, error) {
	p := c.blocks[i]
	content, why, err := c.content(p.at, p.head)
	if err == nil && why != "" {
		err = errors.New(why)
	}
	var block Block
	if err == nil {
		block, err = parseBlock(content)
	}
	if err != nil {
		return Block{}, nil, fmt.Errorf("block %d at byte %d: %w", i, p.at, err)
	}
	fates := c.fates[p.head.number]
	if len(fates) != len(block.Entries) {
		fates = make([]Fate, len(block.Entries))
	}
	return block, fates, nil
}

// Missing is how many frames are lost by the numbers of those that are there.
func (c *Capsule) Missing() (frames int64) {
	for _, d := range c.Damage {
		frames += d.Frames
	}
	return frames
}

// index goes from frame to frame, and over what is damaged to the next whole one.
func (c *Capsule) index() error {
	var id *ID
	next := uint32(0) // the number that the next frame should have
	bad := Damage{From: -1}
	for at := int64(0); at < c.Size; {
		head, content, why, err := c.frame(at)
		if err != nil {
			return err
		}
		if why == "" && id != nil && head.id != *id {
			why = "it belongs to another capsule"
		}
		if why == "" {
			if why, err = c.take(at, head, content); err != nil {
				return err
			}
		}
		if why != "" {
			if bad.From < 0 {
				bad.From, bad.Why = at, why
			}
			if at, err = c.nextMarker(at + 1); err != nil {
				return err
			}
			continue
		}
		id = &head.id
		if head.number != next && bad.From < 0 {
			bad.From, bad.Why = at, "frames are missing here"
		}
		if bad.From >= 0 {
			if head.number > next {
				bad.Frames = int64(head.number - next)
			}
			bad.To = at
			c.Damage = append(c.Damage, bad)
			bad = Damage{From: -1}
		}
		next = head.number + 1
		at += head.size()
	}
	if id == nil {
		return ErrNotCapsule
	}
	if bad.From >= 0 {
		bad.To = c.Size
		c.Damage = append(c.Damage, bad)
	}
	return nil
}

// take files a whole frame's content. why tells what makes it unusable; err ends the reading.
func (c *Capsule) take(at int64, head frameHead, content []byte) (why string, err error) {
	switch head.kind {
	case headerFrame:
		var h Header
		if why = because("the header cannot be read", json.Unmarshal(content, &h)); why != "" {
			return why, nil
		}
		if h.Version != Version {
			return "", fmt.Errorf("the capsule is of format %d, and this program reads format %d: use the version that wrote it (%.60q)", h.Version, Version, h.By)
		}
		c.Header, c.DB = &h, h.DB
	case footerFrame:
		var f Footer
		if why = because("the footer cannot be read", json.Unmarshal(content, &f)); why != "" {
			return why, nil
		}
		c.Footer = &f
	case blockFrame:
		block, err := parseBlock(content)
		if why = because("the block cannot be read", err); why != "" {
			return why, nil
		}
		c.DB = block.DB
		if !slices.Contains(c.families, block.Family) {
			c.families = append(c.families, block.Family)
		}
		c.keys += int64(len(block.Entries))
		c.blocks = append(c.blocks, place{at, head})
	case outcomeFrame:
		number, fates, err := parseFates(content)
		if why = because("the outcome cannot be read", err); why != "" {
			return why, nil
		}
		c.fates[number] = fates
	default:
		return "it is of no known kind", nil
	}
	return "", nil
}

// because tells an error in words: damage is no error of the one who reads.
func because(what string, err error) string {
	if err == nil {
		return ""
	}
	return what + ": " + err.Error()
}

// frame reads the frame at a place. why tells what is wrong with it; err is the file's.
func (c *Capsule) frame(at int64) (head frameHead, content []byte, why string, err error) {
	b := make([]byte, min(int64(headSize), c.Size-at))
	if err := c.readAt(b, at); err != nil {
		return head, nil, "", err
	}
	head, ok := parseHead(b)
	switch {
	case !ok && c.Size-at < int64(headSize):
		return head, nil, "the file ends within a frame", nil
	case !ok:
		return head, nil, "no frame begins here", nil
	case head.size() > c.Size-at:
		return head, nil, "the file ends within a frame", nil
	}
	content, why, err = c.content(at, head)
	return head, content, why, err
}

// content reads and checks what a frame holds.
func (c *Capsule) content(at int64, head frameHead) (content []byte, why string, err error) {
	b := make([]byte, head.size())
	if err := c.readAt(b, at); err != nil {
		return nil, "", err
	}
	stored := b[headSize : len(b)-sumSize]
	if !bytes.Equal(checksum(b[:headSize], stored), b[len(b)-sumSize:]) {
		return nil, "the checksum is wrong", nil
	}
	if head.kind == headerFrame || head.kind == footerFrame {
		return stored, "", nil
	}
	content, err = c.codec.DecodeAll(stored, make([]byte, 0, head.raw))
	if err != nil || len(content) != int(head.raw) {
		return nil, "it cannot be unpacked", nil //nolint:nilerr // damage is no error of reading.
	}
	return content, "", nil
}

// nextMarker is where the next marker from a place on stands, or the file's end.
func (c *Capsule) nextMarker(from int64) (int64, error) {
	const step = 64 << 10
	for at := from; at < c.Size; at += step {
		b := make([]byte, min(step+int64(len(marker))-1, c.Size-at))
		if err := c.readAt(b, at); err != nil {
			return 0, err
		}
		if i := bytes.Index(b, []byte(marker)); i >= 0 {
			return at + int64(i), nil
		}
	}
	return c.Size, nil
}

func (c *Capsule) readAt(b []byte, at int64) error {
	if n, err := c.source.ReadAt(b, at); n < len(b) {
		return fmt.Errorf("read at byte %d: %w", at, err)
	}
	return nil
}
