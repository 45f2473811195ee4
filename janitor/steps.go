package janitor

import (
	"context"

	"redis-janitor/ttlpolicy"
)

// step is one part of a story.
type step struct {
	name string
	do   func(context.Context) error
	// found is what there is to log when it is done, in pairs of name and value; none, or a nil found: nothing.
	found func() []any
}

// carryOut takes steps in their order, up to the first that ends the run.
func (j *job) carryOut(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			err = whyStopped(ctx, err)
			j.env.Log.Info(s.name, "ends", err.Error())
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.found == nil {
			continue
		}
		if found := s.found(); len(found) > 0 {
			j.env.Log.Info(s.name, found...)
		}
	}
	return nil
}

func (j *job) foundServers() []any {
	found := []any{"servers", len(j.nodes), "down", len(j.down)}
	if len(j.nodes) > 0 {
		n := j.nodes[0]
		found = append(found, "first", n.node.Addr(), "version", n.info.Server())
	}
	return found
}

func (j *job) foundMemory() []any {
	fullest := j.nodes[0]
	for _, n := range j.nodes {
		if n.reading.Ratio() > fullest.reading.Ratio() {
			fullest = n
		}
	}
	r := fullest.reading
	return []any{"level", fullest.level.String(), "fullest", fullest.node.Addr(), "used", ttlpolicy.FormatSize(r.Used), "limit", ttlpolicy.FormatSize(r.Limit)}
}

func (j *job) foundPause() []any { return []any{"paused", j.report.Pause != nil} }

func (j *job) foundUsers() []any {
	return []any{"active", j.report.Users.Active, "over", j.report.Users.Over, "from", j.report.Users.From}
}

func (j *job) foundReady() []any {
	working := 0
	for _, n := range j.nodes {
		if n.works() {
			working++
		}
	}
	return []any{"servers_to_clean", working, "of", len(j.nodes)}
}

func (j *job) foundLease() []any {
	if j.lease == nil {
		return nil
	}
	return []any{"written", j.lease.Unwritten == nil}
}

func (j *job) foundKeys() []any {
	evicted, scanned := int64(0), int64(0)
	for i := range j.report.Nodes {
		scanned += j.report.Nodes[i].Scanned
		for _, f := range j.report.Nodes[i].Families {
			evicted += f.Evicted
		}
	}
	if j.req.Command == Plan {
		return []any{"servers_surveyed", len(j.nodes)}
	}
	return []any{"scanned", scanned, "evicted", evicted}
}
