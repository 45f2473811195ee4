package janitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"redis-janitor/janitor/keyspace"
)

const (
	// maxSetbacks is how many batches in a row may fail before the walk ends.
	maxSetbacks = 3
	// maxRestarts is how often a node's walk begins again.
	maxRestarts = 3
	// loadingFor is how long a server may take to load its data after a restart.
	loadingFor = time.Minute
	// failoverFor is how long it may take until a replica is promoted in a primary's place.
	failoverFor = time.Minute
	// doubtEvery is how often a cluster's node that has moved keys is asked whether it is still a primary.
	doubtEvery = time.Second
	// knockEvery is how often a server that is down or loading is asked again.
	knockEvery = 100 * time.Millisecond
)

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
	case kind == keyspace.ClusterDown && w.node.Moves():
		// Nothing was done: while a primary is being replaced, the others refuse to serve too.
		return w.await(ctx, func() error { return w.serves(ctx) })
	}
	return err
}

// lost is whether an error means that the server is gone, for a while or for good.
func (n *nodeJob) lost(err error) bool {
	switch keyspace.KindOf(err) {
	case keyspace.Restarted, keyspace.Unreachable, keyspace.Loading:
		return true
	case keyspace.ReadOnly:
		return n.node.Moves() // another one has taken its place, or will
	case keyspace.ClusterDown:
		return n.node.Moves() && n.served.Load() // it was up before: another primary is being replaced
	}
	return false
}

// serves asks for a key that the user may read.
func (n *nodeJob) serves(ctx context.Context) error {
	return n.node.Serves(ctx, cmp.Or(n.set.Specimen(), keyspace.LeaseKey))
}

// doubt is for a node that says of keys that another one has them: single slots may be on their way, or
// it may be a replica by now, of which nothing that it is asked for would come true. Then it is lost.
func (n *nodeJob) doubt(ctx context.Context) error {
	last := n.doubted.Load()
	if now := time.Now().UnixNano(); now-last < int64(doubtEvery) || !n.doubted.CompareAndSwap(last, now) {
		return nil
	}
	return n.demoted(ctx)
}

// demoted asks a node whether it is a primary still.
func (n *nodeJob) demoted(ctx context.Context) error {
	info, err := n.node.Info(ctx)
	if err == nil {
		err = n.node.Demoted(info)
	}
	return err
}

// reshaped looks, after a walk, whether the node has slots that it had not before: the walk may have passed
// the places at which their keys came in. One that lost its place since it was last doubted has kept all of its keys as moved.
func (n *nodeJob) reshaped(ctx context.Context) (bool, error) {
	if n.node.Moves() {
		if err := n.demoted(ctx); err != nil {
			return false, err
		}
	}
	gained, err := n.node.Gained(ctx)
	if gained > 0 {
		n.warn(n, "", "possibly_incomplete", "%s was given %d slots of the cluster during the walk, which began again to see their keys", n.node.Addr(), gained)
	}
	return gained > 0, err
}

// follow meets whoever answers for the node by now, the same server or another one in its place. What was learnt of
// the keys means nothing there.
func (n *nodeJob) follow(ctx context.Context) (restarted bool, err error) {
	var info keyspace.Info
	err = n.await(ctx, func() (err error) {
		if info, err = n.node.Meet(ctx); err != nil {
			return err
		}
		if err := info.Ready(n.node.Addr()); err != nil {
			return err
		}
		return n.serves(ctx)
	})
	if err != nil {
		return false, err
	}
	restarted = info.Text("run_id") != n.info.Text("run_id")
	if restarted && n.plan != nil {
		return true, &keyspace.Error{Op: "carry out the plan", Addr: n.node.Addr(), Kind: keyspace.Restarted, Hint: "make a new plan",
			Err: errors.New("the server that the plan was made for was restarted or replaced")}
	}
	n.info, n.census, n.report.RunID, n.report.Addr = info, nil, info.Text("run_id"), n.node.Addr()
	return restarted, nil
}

// beginAgain gets ready for another walk from cursor 0, by a fresh survey and under a lease that holds:
// a cursor means nothing to another run of a server.
func (n *nodeJob) beginAgain(ctx context.Context) error {
	was := n.report.Addr
	restarted, err := n.follow(ctx)
	if err != nil {
		return err
	}
	if n.info.Replica() {
		return &keyspace.Error{Op: "begin again", Addr: n.node.Addr(), Kind: keyspace.ReadOnly, Hint: "give the address of the primary",
			Err: errors.New("the server was lost, and is a replica now that it is back")}
	}
	if n.lease != nil {
		take := n.lease.Reclaim
		if restarted {
			take = n.lease.Retake
		}
		// The server that has the lease may learn later than this one that the cluster serves again.
		if err := n.await(ctx, func() error { return take(ctx) }); err != nil {
			return fmt.Errorf("begin again on %s: %w", n.node.Addr(), err)
		}
	}
	if n.reading, err = n.readingOf(ctx); err != nil {
		return err
	}
	if restarted {
		n.report.Scanned = 0
		place := was
		if n.report.Addr != was {
			place = fmt.Sprintf("%s (%s now)", was, n.report.Addr)
		}
		n.warn(n, "", "possibly_incomplete", "%s was restarted or replaced while the janitor worked: the walk began again with the data that it came back with. What had been evicted and came back is counted each time it went",
			place)
	}
	return nil
}

// await asks again and again, within bounds, for as long as a server is down, loading or being replaced.
func (n *nodeJob) await(ctx context.Context, ask func() error) error {
	began, patience := time.Now(), n.req.Connection.ConnectTimeout+n.req.Connection.CommandTimeout
	for {
		err := ask()
		switch keyspace.KindOf(err) {
		case keyspace.Unreachable, keyspace.ReadOnly, keyspace.ClusterDown:
			if n.node.Moves() {
				patience = failoverFor
			}
		case keyspace.Loading:
			patience = loadingFor
		default:
			return whyStopped(ctx, err)
		}
		if time.Since(began) > patience {
			return whyStopped(ctx, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(knockEvery):
		}
	}
}
