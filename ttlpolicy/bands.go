package ttlpolicy

import (
	"math"
	"math/bits"
	"time"
)

// A family's remaining TTLs are counted in this many bands over [0, lifetime]:
// fine enough that a waterline errs by 1/4320 of the lifetime, and divisible by
// what people write (45m of 1h, 5m of 1d, 12 bins) so that ages fall on edges.
const bands = 4320

// Pages are allocated when one of their bands is hit. The eligible keys mostly
// lie in other bands than the kept ones, so that a family stays near 100 KB.
const pageBands = bands / 20

// band counts the keys in one band. Redis holds at most 2³² keys.
type band struct {
	keys, unsized  uint32
	bytes, squares float64 // of the sized keys; the squares for the spread
}

func (b *band) add(bytes float64) {
	b.keys++
	if !measured(bytes) {
		b.unsized++
		return
	}
	b.bytes += bytes
	b.squares += bytes * bytes
}

// measured is false for what can be no size: it takes the mean, as -1 does.
func measured(bytes float64) bool { return bytes >= 0 && bytes <= math.MaxInt64 }

// histogram counts keys by remaining TTL, in bands of (edge(i), edge(i+1)].
type histogram struct {
	pages [bands / pageBands]*[pageBands]band
}

func (h *histogram) at(i int) *band {
	page := &h.pages[i/pageBands]
	if *page == nil {
		*page = new([pageBands]band)
	}
	return &(*page)[i%pageBands]
}

func (h *histogram) keys(i int) uint32 {
	if page := h.pages[i/pageBands]; page != nil {
		return page[i%pageBands].keys
	}
	return 0
}

// each yields the bands that hold keys, by rising TTL.
func (h *histogram) each(yield func(int, band) bool) {
	for p, page := range h.pages {
		if page == nil {
			continue
		}
		for i, b := range page {
			if b.keys > 0 && !yield(p*pageBands+i, b) {
				return
			}
		}
	}
}

// bandOf is the band of a TTL; what lies above the lifetime goes into the last.
func bandOf(ttl, lifetime time.Duration) int {
	if ttl <= 0 {
		return 0
	}
	if ttl >= lifetime {
		return bands - 1
	}
	// A band's upper edge belongs to it, as a waterline's own TTL goes.
	hi, lo := bits.Mul64(uint64(ttl), bands)
	i, rest := bits.Div64(hi, lo, uint64(lifetime))
	if rest == 0 {
		i--
	}
	return int(i)
}

// edge is the TTL at which band i begins, and band i-1 ends.
func edge(i int, lifetime time.Duration) time.Duration { return portion(lifetime, i, bands) }

// portion is d·part/whole without overflow, for 0 ≤ part ≤ whole.
func portion(d time.Duration, part, whole int) time.Duration {
	hi, lo := bits.Mul64(uint64(d), uint64(part))
	q, _ := bits.Div64(hi, lo, uint64(whole))
	return time.Duration(q)
}

// tally sums up bands, or shares of them.
type tally struct{ keys, unsized, bytes, squares float64 }

func (t *tally) add(b band, share float64) {
	t.keys += share * float64(b.keys)
	t.unsized += share * float64(b.unsized)
	t.bytes += share * b.bytes
	t.squares += share * b.squares
}
