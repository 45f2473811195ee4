package janitor

import (
	"context"
	"errors"

	"redis-janitor/janitor/keyspace"
)

// maxSetbacks is how many batches in a row may fail before the run gives up.
const maxSetbacks = 3

// overcome tells whether the walk may go on after a batch that failed: nil where it may. What may have
// been deleted without an answer is counted as uncertain and not sent again.
func (w *walker) overcome(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if w.setbacks.Add(1) > maxSetbacks {
		return err
	}
	switch kind := keyspace.KindOf(err); {
	case errors.Is(err, keyspace.ErrFenced):
		return w.lease.Reclaim(ctx)
	case kind == keyspace.Unreachable, kind == keyspace.BusyScript, kind == keyspace.MaxClients:
		// Nothing was done that is not counted. An answer shows that the same run of the same server is
		// there again; every new connection makes sure of that.
		_, err = w.node.Info(ctx)
		return whyStopped(ctx, err)
	}
	return err
}
