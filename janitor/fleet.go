package janitor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// NodesAtOnce is how many servers of a cluster are surveyed or cleaned at the same time where a request
// does not say. Together with the workers it bounds connections and memory, however many servers there are.
const NodesAtOnce = 4

func (j *job) nodesAtOnce() int {
	if j.req.NodesAtOnce > 0 {
		return j.req.NodesAtOnce
	}
	return NodesAtOnce
}

// downNode is a primary of a cluster that did not answer at the beginning.
type downNode struct {
	report *NodeReport
	err    error
}

// muster gives each server that answered its part of the run, and each one that didn't its row in the report.
func (j *job) muster() error {
	nodes, down := j.space.Nodes(), j.space.Down()
	j.report.Nodes = make([]NodeReport, len(nodes)+len(down))
	for i, node := range nodes {
		n := &nodeJob{job: j, node: node, report: &j.report.Nodes[i], row: i, info: node.First(), largest: make([]float64, len(j.rules)), calibrations: make([]calibration, len(j.rules))}
		n.describe()
		if err := n.info.Ready(node.Addr()); err != nil {
			j.down = append(j.down, &downNode{n.report, err})
			continue
		}
		j.nodes = append(j.nodes, n)
	}
	for i, d := range down {
		row := &j.report.Nodes[len(nodes)+i]
		*row = NodeReport{Addr: d.Addr, Families: []FamilyReport{}}
		j.down = append(j.down, &downNode{row, d.Err})
	}
	for _, d := range j.down {
		// A refusal is somebody's mistake rather than an outage: it is told before anything is deleted.
		if len(j.nodes) == 0 || !isDown(d.err) {
			return d.err
		}
		j.tell(Warning{Code: "node_down", Message: d.err.Error(), Node: d.report.Addr})
	}
	return nil
}

// isDown tells an outage from a refusal.
func isDown(err error) bool {
	switch keyspace.KindOf(err) {
	case keyspace.Unreachable, keyspace.Loading, keyspace.MaxClients, keyspace.Restarted:
		return true
	}
	return false
}

// works tells whether a node is under pressure and no gate holds it back.
func (n *nodeJob) works() bool { return n.level > ttlpolicy.OK && n.spared == nil && n.err == nil }

// several tells whether there is more than one server to speak of.
func (j *job) several() bool { return len(j.nodes)+len(j.down) > 1 }

// each does something on every node, on several at once. One that lost its place is followed to where it is now. A node
// of several that is lost on the way is left alone from then on; any other failure ends the run.
func (j *job) each(ctx context.Context, do func(*nodeJob) error) error {
	errs := make([]error, len(j.nodes))
	keyspace.Parallel(len(j.nodes), j.nodesAtOnce(), func(i int) {
		n := j.nodes[i]
		if n.err != nil {
			return
		}
		if errs[i] = do(n); n.node.Moves() && keyspace.KindOf(errs[i]) == keyspace.ReadOnly {
			if _, errs[i] = n.follow(ctx); errs[i] == nil {
				errs[i] = do(n)
			}
		}
	})
	if ctx.Err() != nil {
		return whyStopped(ctx, errors.Join(errs...))
	}
	alive := 0
	for i, err := range errs {
		switch n := j.nodes[i]; {
		case err != nil && j.several() && isDown(err):
			n.err = err
			j.warn(n, "", "node_down", "%s", err)
		case err != nil:
			return err
		case n.err == nil:
			alive++
		}
	}
	if alive == 0 {
		return j.nodes[0].err
	}
	return nil
}

// cleanAll cleans every node that is under pressure. What ends one node's work does not end the others'.
func (j *job) cleanAll(ctx context.Context) error {
	keyspace.Parallel(len(j.nodes), j.nodesAtOnce(), func(i int) {
		n := j.nodes[i]
		switch {
		case n.err != nil:
		case n.level == ttlpolicy.OK:
			n.report.Outcome, n.report.Reason = Nothing, BelowThreshold
		case n.spared == nil:
			n.err = whyStopped(ctx, n.clean(ctx))
		}
		if j.several() {
			n.rest()
		}
	})
	j.reshaped(ctx)
	for _, n := range j.nodes {
		// What holds for the whole run, rather than for one server.
		var signal *Signal
		var end *ending
		if errors.As(n.err, &signal) || errors.As(n.err, &end) || errors.Is(n.err, errDeadline) || errors.Is(n.err, keyspace.ErrFenced) || isUnwritten(n.err) || errors.Is(n.err, capsule.ErrFull) || !j.several() && n.err != nil {
			return n.err
		}
	}
	return nil
}

// reshaped warns where slots have changed hands: keys that went to a node that was done were not seen.
func (j *job) reshaped(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	switch changed, err := j.space.Reshaped(ctx); {
	case err != nil:
		j.warn(nil, "", "possibly_incomplete", "whether slots of the cluster changed hands meanwhile cannot be told: %v", err)
	case changed:
		j.warn(nil, "", "possibly_incomplete", "slots of the cluster changed hands while the janitor worked: keys on their way may not have been seen")
	}
}

// rest gives back what a node that is done with holds: the next one needs as much.
func (n *nodeJob) rest() {
	if err := n.node.Leave(); err != nil {
		n.env.Log.Warn("close connections", "error", err)
	}
	n.census, n.cuts, n.pipelines, n.governor = nil, nil, nil, nil
}

// finished is the ending of a run that went its whole way: the worst of its nodes', and for several a
// sentence about all of them.
func (j *job) finished() *ending {
	var worst *ending
	done := 0
	take := func(r *NodeReport, end *ending) {
		r.Outcome, r.Reason = end.outcome, end.reason
		if worst == nil || gravity(end) > gravity(worst) {
			worst = end
		}
	}
	for _, n := range j.nodes {
		switch {
		case n.err != nil:
			take(n.report, j.nodeFailed(n.node.Addr(), n.err))
			continue
		case n.spared != nil:
			take(n.report, n.spared)
		case n.level > ttlpolicy.OK:
			take(n.report, n.finished())
		}
		done++
	}
	for _, d := range j.down {
		take(d.report, j.nodeFailed(d.report.Addr, d.err))
	}
	if !j.several() || worst == nil {
		return worst
	}
	all := *worst
	all.message = j.tellAll(worst, done)
	return &all
}

// gravity orders endings: what a run of several nodes came to is the gravest of theirs.
func gravity(end *ending) int {
	switch end.exit {
	case ExitFailed:
		return 6
	case ExitNoServer:
		return 5
	case ExitIncomplete:
		return 4
	case ExitToEvict:
		return 3
	}
	switch end.outcome {
	case Evicted, Planned:
		return 2
	case Skipped:
		return 1
	}
	return 0
}

// nodeFailed is the ending of one node of several. A server that is down is no failure of the run: the others
// are done, and exit code 3 says that one is not.
func (j *job) nodeFailed(addr string, err error) *ending {
	if !isDown(err) {
		return j.failure(err)
	}
	end := &ending{Incomplete, NodeDown, ExitIncomplete, fmt.Sprintf("%s is down: %v", addr, err), "run again when it is back"}
	if !j.acts() {
		end.outcome, end.exit = Nothing, ExitDone
	}
	return end
}

// unlessDown is the ending of a run that does nothing on the nodes that answer. That others are down is graver, and no
// gate's word is theirs.
func (j *job) unlessDown(end *ending) *ending {
	worst := end
	take := func(r *NodeReport, err error) {
		failed := j.nodeFailed(r.Addr, err)
		r.Outcome, r.Reason = failed.outcome, failed.reason
		if worst == end && gravity(failed) >= gravity(end) {
			worst = failed
		}
	}
	for _, n := range j.nodes {
		switch {
		case isDown(n.err):
			take(n.report, n.err)
		case n.report.Outcome == "":
			n.report.Outcome, n.report.Reason = end.outcome, end.reason
		}
	}
	for _, d := range j.down {
		take(d.report, d.err)
	}
	all := *worst
	all.message = end.message + j.tellDown(end.message)
	return &all
}

// tellAll sums up what several nodes came to, and the gravest of it.
func (j *job) tellAll(worst *ending, done int) string {
	var keys, bytes int64
	for i := range j.report.Nodes {
		for _, f := range j.report.Nodes[i].Families {
			if j.req.Command == Plan {
				keys, bytes = keys+f.Estimate.Evict, bytes+f.Estimate.EvictBytes
			} else {
				keys, bytes = keys+f.Evicted, bytes+f.Bytes
			}
		}
	}
	did := "evicted %d keys and freed about %s on %d of %d nodes"
	if !j.acts() {
		did = "execute would evict about %d keys and free about %s (estimate) on %d of %d nodes"
	}
	text := []string{fmt.Sprintf(did, keys, ttlpolicy.FormatSize(bytes), done, len(j.report.Nodes))}
	if worst.exit != ExitDone && worst.exit != ExitToEvict || worst.outcome == Skipped {
		text = append(text, worst.message)
	}
	said := strings.Join(text, "; ")
	return said + j.tellDown(said)
}

// tellDown names the nodes that are down, but those that have been named.
func (j *job) tellDown(said string) (text string) {
	for i := range j.report.Nodes {
		if n := &j.report.Nodes[i]; n.Reason == NodeDown && !strings.Contains(said, n.Addr) {
			text += "; " + n.Addr + " is down"
		}
	}
	return text
}
