package janitor

import (
	"sync"

	"golang.org/x/time/rate"
)

// spent is what the nodes of a run have taken of --max-keys and --max-bytes together. The zero value is
// ready.
type spent struct {
	mu sync.Mutex
	by map[*ledger]taken
}

// taken is what one node has evicted, or may have, and what is on its way there.
type taken struct {
	keys  int64
	bytes float64
}

// besides is what all nodes but one have taken. No other node is admitted anything until enter has told
// of what this one is; its ledger is locked.
func (s *spent) besides(l *ledger) (keys int64, bytes float64, enter func()) {
	s.mu.Lock()
	for other, t := range s.by {
		if other != l {
			keys += t.keys
			bytes += t.bytes
		}
	}
	return keys, bytes, func() {
		s.enter(l)
		s.mu.Unlock()
	}
}

// tell enters what has become of a batch. The ledger is locked.
func (s *spent) tell(l *ledger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enter(l)
}

func (s *spent) enter(l *ledger) {
	if s.by == nil {
		s.by = map[*ledger]taken{}
	}
	s.by[l] = taken{l.goneKeys + l.onWayKeys, l.takenBytes + l.approach.onWay()}
}

// newLimit holds all nodes of a run to so many keys a second together; nil where there is no limit.
func newLimit(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	// A burst of a tenth of a second: a batch must fit, and no second may get much more than its share.
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/10)))
}
