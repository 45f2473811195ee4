package janitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/pace"
	"redis-janitor/patterns"
	"redis-janitor/ttlpolicy"
)

// Restore is the command that puts back what a capsule holds.
const Restore Command = "restore"

// RestoreRequest is everything a restore depends on besides its surroundings.
type RestoreRequest struct {
	Version    string
	File       string
	Connection keyspace.Options
	Policy     Policy // what memory is judged by; without families it isn't

	Confirmed bool // --yes
	DryRun    bool // only look which keys would come back
	Replace   bool // also over keys that exist now
	FullTTL   bool // with the TTL that was left when a key was taken, rather than until its original expiry
	AnyDB     bool // also into another database than the keys were in
	Families  []string
	Match     []string
	Receipt   string // file for a line on each key; "": none
}

// restoring is one run of restore.
type restoring struct {
	*job
	ask      RestoreRequest
	globs    []patterns.Glob
	file     *capsule.Capsule
	servers  map[*keyspace.Node]*receiver
	families []*RestoredFamily
}

// receiver is one server's part of a restore.
type receiver struct {
	*nodeJob
	clock time.Duration // how far the server's is ahead of ours
	sizer *pace.Sizer
	batch []candidate
	bytes int // of the batch's values
}

// PutBack puts back what an execute with a capsule took, and reports on it, whatever happened. When ctx is
// cancelled, the batch in hand is finished first.
func PutBack(ctx context.Context, ask RestoreRequest, env Env) *Report {
	j := &job{req: Request{Command: Restore, Version: ask.Version, Policy: ask.Policy, Connection: ask.Connection, Receipt: ask.Receipt}, env: env, started: env.Now()}
	j.report = &Report{Schema: ReportSchema, Command: string(Restore), Version: ask.Version, StartedAt: j.started.UTC()}
	r := &restoring{job: j, ask: ask}
	j.write(r.ending(r.story(ctx)))
	r.report.Restore = r.sum()
	err := j.close(ctx)
	if r.file != nil {
		err = errors.Join(err, r.file.Close())
	}
	if err != nil {
		env.Log.Warn("close connections and capsule", "error", err)
	}
	j.report.close()
	j.report.DurationMS = env.Now().Sub(j.started).Milliseconds()
	if err := j.closeReceipt(j.report.Restore); err != nil {
		j.write(r.ending(err))
	}
	return j.report
}

func (r *restoring) story(ctx context.Context) error {
	return r.carryOut(ctx, []step{
		{"capsule", r.open, func() []any { return []any{"keys", r.file.Keys(), "damaged", len(r.file.Damage)} }},
		{"connect", r.connect, r.foundServers},
		{"guards", r.guards, nil},
		{"probe", r.judge, nil},
		{"confirm", r.confirm, nil},
		{"restore", r.work, func() []any { return []any{"restored", r.sum().Restored} }},
	})
}

// open reads the whole capsule once, so that damage is known before anything is sent.
func (r *restoring) open(context.Context) error {
	for _, pattern := range r.ask.Match {
		r.globs = append(r.globs, patterns.Compile(pattern))
	}
	file, err := capsule.Open(r.ask.File)
	var path *fs.PathError
	switch {
	case errors.As(err, &path):
		return &ending{Refused, Usage, ExitUsage, fmt.Sprintf("capsule %s cannot be read: %v", r.ask.File, path.Err), "give the file that execute --capsule wrote"}
	case err != nil:
		return &ending{Refused, BadCapsule, ExitRefused, err.Error() + "; nothing was restored", "give the file that execute --capsule wrote; one that --receipt wrote holds no values"}
	}
	r.file = file
	complete, db := file.Footer != nil && len(file.Damage) == 0, file.DB
	r.report.Capsule = &CapsuleReport{File: r.ask.File, Keys: file.Keys(), Bytes: file.Size, DB: &db,
		Blocks: int64(file.Blocks()), Complete: &complete, Damage: file.Damage}
	if h := file.Header; h != nil {
		r.report.Capsule.MadeAt, r.report.Capsule.Server = &h.MadeAt, h.Server
		r.report.Policy = PolicyReport{Name: h.Policy, SHA256: h.SHA256}
	}
	for _, family := range r.ask.Families {
		if !slices.Contains(file.Families(), family) {
			return &ending{Refused, Usage, ExitUsage, fmt.Sprintf("--family: the capsule has no keys of family %s", patterns.Quote(family)),
				"it has keys of: " + strings.Join(slices.Sorted(slices.Values(file.Families())), ", ")}
		}
	}
	if len(file.Damage) > 0 {
		r.warn(nil, "", "capsule_damaged", "%s cannot be read in full: %s. Whole blocks are restored, what stood there is not",
			r.ask.File, damaged(file.Damage))
	}
	if file.Footer == nil {
		r.warn(nil, "", "capsule_unfinished", "%s has no end: the run that wrote it was killed, or the file was cut short since. All that a killed run had deleted is there",
			r.ask.File)
	}
	return nil
}

// damaged names the first few pieces that can't be read.
func damaged(pieces []capsule.Damage) string {
	const few = 5
	var said []string
	for _, d := range pieces[:min(len(pieces), few)] {
		text := fmt.Sprintf("bytes %d to %d (%s", d.From, d.To, d.Why)
		if d.Frames > 0 {
			text += fmt.Sprintf("; %d frames are missing", d.Frames)
		}
		said = append(said, text+")")
	}
	if len(pieces) > few {
		said = append(said, fmt.Sprintf("and %d more", len(pieces)-few))
	}
	return strings.Join(said, ", ")
}

func (r *restoring) connect(ctx context.Context) error {
	options := r.ask.Connection
	options.Mode, options.Workers = keyspace.Restoring, 1
	if r.ask.DryRun {
		options.Mode = keyspace.Reading
	}
	if err := r.meet(ctx, options); err != nil {
		return err
	}
	calm, err := pace.For("balanced", ttlpolicy.OK)
	if err != nil {
		return err
	}
	calm.Keys, calm.AtOnce = 200, 1 // it sends one pipeline at a time
	r.servers = map[*keyspace.Node]*receiver{}
	for _, n := range r.nodes {
		n.pace, n.report.Pace = calm, calm.Name
		r.servers[n.node] = &receiver{nodeJob: n, clock: n.info.Clock(r.env.Now())}
	}
	return nil
}

func (r *restoring) guards(context.Context) error {
	n := r.nodes[0]
	if n.info.Replica() {
		if !r.ask.DryRun {
			return &ending{Refused, Replica, ExitRefused, fmt.Sprintf("%s is a replica, and takes no keys but its primary's", n.node.Addr()),
				fmt.Sprintf("give the primary's address: %s says it is %s:%s", n.node.Addr(), n.info.Text("master_host"), n.info.Text("master_port"))}
		}
		r.warn(n, "", "replica", "%s is a replica: restore would refuse to run here", n.node.Addr())
	}
	if db := n.node.DB(); db != r.file.DB && !r.ask.AnyDB {
		return &ending{Refused, Guard, ExitRefused, fmt.Sprintf("the capsule's keys were in database %d, and the URL's is %d", r.file.DB, db),
			fmt.Sprintf("end the URL with /%d, or say --any-db to have them in %d", r.file.DB, db)}
	}
	if err := r.receiptCanBegin(); err != nil {
		return err
	}
	if !r.ask.DryRun && !r.ask.Confirmed && r.env.Confirm == nil {
		return &ending{Refused, Guard, ExitRefused, "restore writes keys, and there is no terminal to ask on",
			"add --yes; run it with --dry-run first to see what would come back"}
	}
	return nil
}

// confirm shows a person what would come back, and asks.
func (r *restoring) confirm(ctx context.Context) error {
	if r.ask.DryRun || r.ask.Confirmed {
		return nil
	}
	if err := r.visit(ctx, r.look); err != nil {
		return err
	}
	planned := r.sum()
	planned.DryRun = true
	if planned.Restored == 0 {
		return r.finished(planned) // nothing to ask about, and so nothing to write: not even what is gone a moment later
	}
	r.families = nil
	preview := *r.report
	preview.Restore, preview.Outcome, preview.Reason, preview.Message = planned, Planned, Complete, "This is what restore would do."
	preview.close()
	yes, err := r.env.Confirm(ctx, &preview)
	if err != nil {
		return fmt.Errorf("ask for confirmation: %w", err)
	}
	if !yes {
		return &ending{Refused, Guard, ExitRefused, "not confirmed: nothing was restored", "run it again to be asked again; --dry-run only looks"}
	}
	return nil
}

// work goes through the capsule. Its own canary slows it down for others' sake, as an eviction's does.
func (r *restoring) work(ctx context.Context) error {
	if err := r.beginReceipt(); err != nil {
		return err
	}
	for _, n := range r.nodes {
		n.governor = pace.NewGovernor(n.pace, &n.floor)
		defer n.watch(ctx)()
	}
	if r.ask.DryRun {
		return r.visit(ctx, r.look)
	}
	return r.visit(ctx, r.putBack)
}
