package janitor

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/pace"
)

const (
	// pingEvery is how often the canary asks how the server feels to everybody else.
	pingEvery = 10 * time.Millisecond
	// inspectEvery is how often INFO is read for the strains that a ping does not show.
	inspectEvery = 500 * time.Millisecond
	// laggingBytes is how far a replica may fall behind before the janitor waits for it.
	laggingBytes = 16 << 20
	// pendingFrees is how many values may wait to be freed in the background.
	pendingFrees = 20_000
)

// governed has costly commands take turns, and rests, as the pace asks for at this distance, until stop is called.
func (n *nodeJob) governed(ctx context.Context) (stop func()) {
	n.pace = n.asked.At(n.floor.Trip())
	n.governor = pace.NewGovernor(n.pace, &n.floor)
	n.inspect(n.info) // a short run would be over before INFO is read again
	unwatch := n.watch(ctx)
	return func() {
		unwatch()
		n.governor = nil
	}
}

// watch keeps an eye on the server while the walk goes on, and slows it down for others' sake. Its end
// is the returned function. A canary that can't be heard slows nothing: the walk meets the same
// trouble and reports it.
func (n *nodeJob) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watchers.Go(func() {
		each(ctx, pingEvery, func() {
			if trip, err := n.node.Ping(ctx); err == nil {
				n.floor.Saw(trip)
				n.governor.Felt(trip)
			}
		})
	})
	watchers.Go(func() {
		each(ctx, inspectEvery, func() {
			if info, err := n.node.Info(ctx); err == nil {
				n.inspect(info)
			}
		})
	})
	return func() {
		cancel()
		watchers.Wait()
		if n.report.Backoffs += n.governor.Backoffs(); n.report.Backoffs > 0 {
			n.warn(n, "", "backed_off", "%s was slow to others, a replica fell behind, or it was forking: the janitor slowed down %d times", n.node.Addr(), n.report.Backoffs)
		}
	}
}

func each(ctx context.Context, every time.Duration, do func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

// inspect looks for the reasons to spare a server that a ping does not show, or to leave it.
func (n *nodeJob) inspect(info keyspace.Info) {
	if err := n.node.Demoted(info); err != nil && n.ledger != nil { // without one, nothing is deleted yet
		n.ledger.stop(reasonOf(err), err)
	}
	n.governor.Strain("fork", info.Forking() != "")
	n.governor.Strain("frees", info.PendingFrees() > pendingFrees)
	n.governor.Strain("replicas", replicaLag(info) > laggingBytes)
}

// replicaLag is how many bytes the slowest connected replica is behind, from lines such as
// slave0:ip=…,port=…,state=online,offset=…,lag=….
func replicaLag(info keyspace.Info) int64 {
	head, ok := info.Int("master_repl_offset")
	if !ok {
		return 0
	}
	var worst int64
	for i := 0; info.Text("slave"+strconv.Itoa(i)) != ""; i++ {
		line := info.Text("slave" + strconv.Itoa(i))
		if !strings.Contains(line, "state=online") {
			continue
		}
		for field := range strings.SplitSeq(line, ",") {
			if value, ok := strings.CutPrefix(field, "offset="); ok {
				if offset, err := strconv.ParseInt(value, 10, 64); err == nil {
					worst = max(worst, head-offset)
				}
			}
		}
	}
	return worst
}
