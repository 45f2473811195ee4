package keyspace

import (
	"math/bits"
	"strconv"
	"strings"
)

// slotCount is how many slots the keys of every cluster are dealt out to.
const slotCount = 16384

// SlotOf is a key's slot: CRC16 (XMODEM) of the key, or of what stands in its first braces where that
// is not nothing (Redis cluster specification, "Hash tags").
func SlotOf(key string) int {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			key = tag
		}
	}
	crc := uint16(0)
	for i := range len(key) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^key[i]]
	}
	return int(crc) % slotCount
}

var crcTable = func() (table [256]uint16) {
	const polynomial = 0x1021
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			carry := crc&0x8000 != 0
			if crc <<= 1; carry {
				crc ^= polynomial
			}
		}
		table[i] = crc
	}
	return table
}()

// slotSet is a number of slots. It is compared with ==.
type slotSet [slotCount / 64]uint64

func (s *slotSet) add(slot int)      { s[slot/64] |= 1 << (slot % 64) }
func (s *slotSet) has(slot int) bool { return s[slot/64]&(1<<(slot%64)) != 0 }

// without is what s has and other has not.
func (s slotSet) without(other slotSet) slotSet {
	for i := range s {
		s[i] &^= other[i]
	}
	return s
}

func (s slotSet) size() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// lowest is the first slot; slotCount where there is none.
func (s slotSet) lowest() int {
	for i, word := range s {
		if word != 0 {
			return 64*i + bits.TrailingZeros64(word)
		}
	}
	return slotCount
}

// tag is the smallest number that, in braces, puts a key into one of the slots: so every janitor finds
// the same. Among 16384 slots it takes as many tries as there are for each slot of the set.
func (s slotSet) tag() string {
	const tries = 64 * slotCount
	for i := range tries {
		if tag := strconv.Itoa(i); s.has(SlotOf(tag)) {
			return tag
		}
	}
	return ""
}
