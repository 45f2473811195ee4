package janitor

const (
	// probeAt is the share of what is left to free that may go before memory is read again. The last steps before the
	// target are small, so that what estimates and readings are off by does not carry past it.
	probeAt = 0.8
	// firstAt is that share for a family of which no reading has told anything in this walk, or firstBytes, if that
	// is more: of a large value MEMORY USAGE looks at a few elements, and a huge one may be beside them.
	firstAt    = 0.002
	firstBytes = 64 << 10
	// growth bounds what may go of a family by what has gone of it: memory moves by itself too, by clients' buffers and
	// by what others write, and a reading over little says little of a step that is many times as large.
	growth = 4
	// mostUnderstated bounds what readings say of the estimates: others write and delete meanwhile.
	mostUnderstated = 100
)

// approach is how a run nears its target: it says how much may go before memory is read again, and learns from each
// reading how far the estimates can be trusted. It guards nothing against concurrent use; that is the ledger's.
type approach struct {
	rehearsed bool    // readings are sums of the estimates, which there is no reason to doubt then
	fell      float64 // bytes that memory fell by in this walk, by its readings
	families  []evidence
}

// evidence is what is known of one family's estimates. The first three are in bytes as estimated, or as measured where
// the batch did.
type evidence struct {
	onWay  float64 // sent, and not answered yet
	since  float64 // gone since the last reading, or perhaps
	proven float64 // gone in this walk before the last reading
	times  float64 // how many times more than estimated a key may free, by all readings of a walk; 0: none has told
}

// understated is how many times more than estimated a key must be reckoned to free.
func (e evidence) understated() float64 { return max(e.times, 1) }

// room is how many of a family's next keys may be sent when gap bytes are left to free. None means that memory must be
// read first, with nothing on its way. After a reading at least one key may go, however large it is.
func (a *approach) room(gap float64, family int, sizes []float64) int {
	sent := 0.0
	for _, e := range a.families {
		sent += e.understated() * (e.onWay + e.since)
	}
	e := a.families[family]
	room := (probeAt*gap - sent) / e.understated()
	if !a.rehearsed {
		room = min(room, max(firstAt*gap/e.understated(), firstBytes, growth*e.proven)-e.onWay-e.since)
	}
	if n := fitting(sizes, room); n > 0 || sent > 0 {
		return n
	}
	return 1
}

// reading tells that memory fell by so many bytes since the last one. A family is reckoned to have freed whatever the
// others' estimates leave over of all that memory fell by in this walk: rather too much than too little, since each one
// bears what all are off by, which only makes steps smaller.
func (a *approach) reading(fell float64) {
	all := 0.0
	for i := range a.families {
		e := &a.families[i]
		e.proven, e.since = e.proven+e.since, 0
		all += e.proven
	}
	a.fell += fell
	for i := range a.families {
		if e := &a.families[i]; e.proven > 0 {
			e.times = min((a.fell-(all-e.proven))/e.proven, mostUnderstated)
		}
	}
}

// rehearse takes a reading of what would have gone since the last one, in bytes.
func (a *approach) rehearse() (gone float64) {
	for i := range a.families {
		gone += a.families[i].since
		a.families[i].since = 0
	}
	return gone
}

// newWalk keeps what is known of the estimates, and is as careful as at the beginning: the keys to come are others.
func (a *approach) newWalk() {
	a.fell = 0
	for i := range a.families {
		a.families[i].since, a.families[i].proven = 0, 0
	}
}

// onWay is how many bytes have been sent and not answered yet.
func (a *approach) onWay() (bytes float64) {
	for _, e := range a.families {
		bytes += e.onWay
	}
	return bytes
}

// fitting is how many of the first keys fit into a number of bytes.
func fitting(sizes []float64, room float64) int {
	for i, size := range sizes {
		if room -= size; room < 0 {
			return i
		}
	}
	return len(sizes)
}
