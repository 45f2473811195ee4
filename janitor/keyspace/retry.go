package keyspace

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Reading is tried so often, with pauses of 50, 100, 200 and 400 ms at most between. What writes is
// tried once: a second try could hide what the first one did.
const (
	readTries  = 5
	firstPause = 50 * time.Millisecond
)

// pause is how long to wait after a failed try: half of it fixed, half by chance, so that janitors
// which failed together do not come back together. random lies in [0, 1).
func pause(try int, random float64) time.Duration {
	half := float64(firstPause<<try) / 2
	return time.Duration(half + half*random)
}

// passing tells whether a refusal may be over in a moment.
func passing(kind Kind) bool {
	return kind == Unreachable || kind == Loading || kind == BusyScript || kind == MaxClients
}

// askTries is how often something is asked whose replies are lost.
const askTries = 3

// Again asks once more where a script's reply was lost: for what comes to the same when it is done twice, such as
// taking the lease for one and the same token.
func Again(ctx context.Context, ask func() error) error {
	for try := 0; ; try++ {
		err := ask()
		var e *Error
		if try == askTries-1 || !errors.As(err, &e) || !e.Sent || e.Kind != Unreachable || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause(try, rand.Float64())):
		}
	}
}

// read runs something that only reads until it succeeds, fails for good, has been tried often
// enough, or ctx ends. A connection that is made anew in between is checked by greet.
func (n *Node) read(ctx context.Context, op string, once func() error) error {
	for try := 0; ; try++ {
		err := fail(ctx, op, n.addr, once())
		if err == nil || try == readTries-1 || !passing(KindOf(err)) {
			return err
		}
		select {
		case <-ctx.Done():
			return fail(ctx, op, n.addr, ctx.Err())
		case <-time.After(pause(try, rand.Float64())):
		}
	}
}
