package capsule

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Each frame begins with the marker, so that a reader finds the next one behind a damaged piece. Its
// first byte is no text and no UTF-8, and its last one shows where a file was copied as text.
const marker = "\xd5RJCAP\x01\n"

// frameKind says what a frame holds.
type frameKind byte

const (
	headerFrame  frameKind = 'H'
	blockFrame   frameKind = 'B'
	outcomeFrame frameKind = 'O'
	footerFrame  frameKind = 'F'
)

// frameHead is what stands before a frame's content:
//
//	marker 8 | capsule's id 8 | kind 1 | number 4 | stored length 4 | raw length 4 | CRC-32C of these 4
//
// The content and a truncated SHA-256 of head and content follow. The head has a checksum of its own so that
// a damaged length is not believed.
type frameHead struct {
	id     ID
	kind   frameKind
	number uint32
	stored uint32 // bytes of content in the file
	raw    uint32 // bytes of content when it is unpacked
}

// ID tells the frames of one capsule from those of another, which a value may hold.
type ID [8]byte

const (
	headSize = len(marker) + len(ID{}) + 1 + 3*4 + 4
	sumSize  = 16
)

func (h frameHead) encode() []byte {
	b := append(make([]byte, 0, headSize), marker...)
	b = append(b, h.id[:]...)
	b = append(b, byte(h.kind))
	b = binary.LittleEndian.AppendUint32(b, h.number)
	b = binary.LittleEndian.AppendUint32(b, h.stored)
	b = binary.LittleEndian.AppendUint32(b, h.raw)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// parseHead reads a head; false where the bytes are none.
func parseHead(b []byte) (h frameHead, ok bool) {
	if len(b) < headSize || string(b[:len(marker)]) != marker {
		return h, false
	}
	fields := b[len(marker):headSize]
	h.kind = frameKind(fields[copy(h.id[:], fields)])
	numbers := fields[len(h.id)+1:]
	h.number = binary.LittleEndian.Uint32(numbers)
	h.stored = binary.LittleEndian.Uint32(numbers[4:])
	h.raw = binary.LittleEndian.Uint32(numbers[8:])
	return h, binary.LittleEndian.Uint32(numbers[12:]) == crc32.Checksum(b[:headSize-4], castagnoli())
}

// size is the whole frame's.
func (h frameHead) size() int64 { return int64(headSize) + int64(h.stored) + sumSize }

func checksum(head, content []byte) []byte {
	hash := sha256.New()
	hash.Write(head)
	hash.Write(content)
	return hash.Sum(nil)[:sumSize]
}

// appendBlock writes a block's content, before it is compressed.
func appendBlock(b []byte, block Block) []byte {
	b = appendText(b, block.Addr)
	b = binary.AppendUvarint(b, uint64(block.DB))
	b = appendText(b, block.Family)
	b = binary.AppendUvarint(b, uint64(len(block.Entries)))
	for _, e := range block.Entries {
		b = appendText(b, e.Key)
		b = appendText(b, e.Type)
		b = binary.AppendVarint(b, e.ExpiresAt)
		b = binary.AppendVarint(b, e.TTL)
		b = appendText(b, e.Value)
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// content takes a frame's content apart. The first thing that does not fit is its error.
type content struct {
	rest []byte
	err  error
}

func (c *content) fail(what string) {
	if c.err == nil {
		c.err = fmt.Errorf("%s does not fit", what)
	}
	c.rest = nil
}

func (c *content) uvarint(what string) uint64 {
	n, size := binary.Uvarint(c.rest)
	if size <= 0 {
		c.fail(what)
		return 0
	}
	c.rest = c.rest[size:]
	return n
}

func (c *content) varint(what string) int64 {
	n, size := binary.Varint(c.rest)
	if size <= 0 {
		c.fail(what)
		return 0
	}
	c.rest = c.rest[size:]
	return n
}

func (c *content) text(what string) string {
	size := c.uvarint(what)
	if size > uint64(len(c.rest)) {
		c.fail(what)
		return ""
	}
	text := string(c.rest[:size])
	c.rest = c.rest[size:]
	return text
}

// leastEntry is how many bytes an entry takes at least.
const leastEntry = 5

func parseBlock(b []byte) (Block, error) {
	c := &content{rest: b}
	block := Block{Addr: c.text("address")}
	block.DB = int(c.uvarint("database") & 0xffff_ffff)
	block.Family = c.text("family")
	count := c.uvarint("number of keys")
	if count > uint64(len(c.rest)/leastEntry) {
		c.fail("number of keys")
		count = 0
	}
	block.Entries = make([]Entry, 0, count)
	for range count {
		block.Entries = append(block.Entries, Entry{
			Key: c.text("key"), Type: c.text("type"),
			ExpiresAt: c.varint("expiry"), TTL: c.varint("TTL"), Value: c.text("value"),
		})
	}
	if len(c.rest) > 0 {
		c.fail("what follows the keys")
	}
	return block, c.err
}

// appendFates writes an outcome's content: of which block, and the fate of each of its keys.
func appendFates(b []byte, block uint32, fates []Fate) []byte {
	b = binary.AppendUvarint(b, uint64(block))
	for _, f := range fates {
		b = append(b, byte(f))
	}
	return b
}

func parseFates(b []byte) (block uint32, fates []Fate, err error) {
	c := &content{rest: b}
	number := c.uvarint("block number")
	if number > 0xffff_ffff {
		c.fail("block number")
	}
	fates = make([]Fate, len(c.rest))
	for i, f := range c.rest {
		fates[i] = Fate(f)
	}
	return uint32(number & 0xffff_ffff), fates, c.err
}
