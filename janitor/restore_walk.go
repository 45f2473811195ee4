package janitor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/pace"
	"redis-janitor/patterns"
	"redis-janitor/ttlpolicy"
)

// restoreBytes bounds one pipeline's values: the server runs it in one go.
const restoreBytes = 1 << 20

// candidate is a key on its way back.
type candidate struct {
	keyspace.PutBack
	counts *RestoreCounts
}

// visit goes through the whole blocks and hands on what is to come back, batch by batch. Of a key that was
// taken twice the later value is the right one: it comes first where what is there stays, and last where it is
// replaced.
func (r *restoring) visit(ctx context.Context, carryOut func(context.Context) error) error {
	r.sizer = pace.NewSizer(r.n.pace.Slice, min(20, r.n.pace.Keys), r.n.pace.Keys, &r.n.floor)
	blocks := r.file.Blocks()
	for i := range blocks {
		place := i
		if !r.ask.Replace {
			place = blocks - 1 - i
		}
		block, fates, err := r.file.Block(place)
		if err != nil {
			return err
		}
		counts := r.countsOf(block.Family)
		for k, entry := range block.Entries {
			counts.Keys++
			switch {
			case !fates[k].Restorable():
				counts.Stayed++
				continue
			case !r.selected(block.Family, entry.Key):
				counts.Unselected++
				continue
			case r.expired(entry):
				counts.Expired++
				continue
			}
			counts.NotReached++ // until its batch is carried out
			r.batch = append(r.batch, candidate{r.comingBack(entry, fates[k]), counts})
			r.bytes += len(entry.Value)
			if len(r.batch) >= r.sizer.Size() || r.bytes >= restoreBytes {
				if err := r.flush(ctx, carryOut); err != nil {
					return err
				}
			}
		}
	}
	return r.flush(ctx, carryOut)
}

func (r *restoring) countsOf(family string) *RestoreCounts {
	for _, f := range r.families {
		if f.Name == family {
			return &f.RestoreCounts
		}
	}
	f := &RestoredFamily{Name: family}
	r.families = append(r.families, f)
	return &f.RestoreCounts
}

func (r *restoring) selected(family, key string) bool {
	return (len(r.ask.Families) == 0 || slices.Contains(r.ask.Families, family)) &&
		(len(r.globs) == 0 || slices.ContainsFunc(r.globs, func(g patterns.Glob) bool { return g.Match(key) }))
}

// expired is whether a key's time would be over by now, by the server's clock. RESTORE would say OK and leave it out.
func (r *restoring) expired(e capsule.Entry) bool {
	return !r.ask.FullTTL && e.ExpiresAt >= 0 && e.ExpiresAt <= r.env.Now().Add(r.clock).UnixMilli()
}

func (r *restoring) comingBack(e capsule.Entry, fate capsule.Fate) keyspace.PutBack {
	// Where it is not certain that the run deleted the key, what is there now may be the key itself, newer.
	k := keyspace.PutBack{Key: e.Key, Value: e.Value, Replace: r.ask.Replace && fate == capsule.Evicted}
	switch {
	case e.ExpiresAt < 0:
	case r.ask.FullTTL:
		k.TTL = max(e.TTL, 1) // 0 would be for ever
	default:
		k.ExpiresAt = e.ExpiresAt
	}
	return k
}

// flush carries out a batch. It is finished even when the run is being stopped.
func (r *restoring) flush(ctx context.Context, carryOut func(context.Context) error) error {
	if len(r.batch) == 0 {
		return nil
	}
	keys, took := len(r.batch), time.Duration(0)
	err := r.n.governor.Run(ctx, func() error {
		start := time.Now()
		err := carryOut(context.WithoutCancel(ctx))
		took = time.Since(start)
		return err
	})
	r.batch, r.bytes = r.batch[:0], 0
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.sizer.Took(keys, took)
	sum := r.sum()
	r.n.progress(Progress{Phase: "restore", Keys: sum.Keys, Scanned: sum.Keys - sum.NotReached, Evicted: sum.Restored, FreedBytes: sum.Bytes})
	return nil
}

// putBack sends a batch.
func (r *restoring) putBack(ctx context.Context) error {
	keys := make([]keyspace.PutBack, len(r.batch))
	for i, c := range r.batch {
		keys[i] = c.PutBack
	}
	became, err := r.n.node.Restore(ctx, keys)
	for i, c := range r.batch {
		c.became(became[i])
	}
	return err
}

// look finds out what would become of a batch, by commands that read.
func (r *restoring) look(ctx context.Context) error {
	keys := make([]string, len(r.batch))
	for i, c := range r.batch {
		keys[i] = c.Key
	}
	facts, err := r.n.node.Facts(ctx, keys, keyspace.Ask{})
	if err != nil {
		return err
	}
	for i, c := range r.batch {
		switch {
		case facts[i].Expiry == ttlpolicy.Missing || c.Replace:
			c.became(keyspace.CameBack)
		case facts[i].Expiry == ttlpolicy.UnknownExpiry:
			c.became(keyspace.MaybeBack)
		default:
			c.became(keyspace.Exists)
		}
	}
	return nil
}

// became counts what became of a key.
func (c candidate) became(b keyspace.Comeback) {
	switch b {
	case keyspace.NotSent:
		return
	case keyspace.CameBack:
		c.counts.Restored++
		c.counts.Bytes += int64(len(c.Value))
	case keyspace.Exists:
		c.counts.Exists++
	case keyspace.Unfit:
		c.counts.Unfit++
	case keyspace.MaybeBack:
		c.counts.Uncertain++
	}
	c.counts.NotReached--
}

// sum writes the counts into a report. What the run did not come to counts as not reached.
func (r *restoring) sum() *RestoreReport {
	sum := &RestoreReport{DryRun: r.ask.DryRun, Families: make([]RestoredFamily, len(r.families))}
	for i, f := range r.families {
		sum.Families[i] = *f
		sum.Keys += f.Keys
		sum.Restored += f.Restored
		sum.Exists += f.Exists
		sum.Expired += f.Expired
		sum.Stayed += f.Stayed
		sum.Unselected += f.Unselected
		sum.Unfit += f.Unfit
		sum.Uncertain += f.Uncertain
		sum.NotReached += f.NotReached
		sum.Bytes += f.Bytes
	}
	if r.file != nil {
		sum.NotReached += r.file.Keys() - sum.Keys
		sum.Keys = r.file.Keys()
	}
	return sum
}

// ending is how a restore came to its end.
func (r *restoring) ending(err error) *ending {
	sum := r.sum()
	so := fmt.Sprintf("%d keys had been restored", sum.Restored)
	if r.ask.DryRun || sum.Restored+sum.Uncertain == 0 {
		so = "nothing was restored"
	}
	const again = "run restore again to go on: what is back stays as it is"
	var end *ending
	var signal *Signal
	switch {
	case err == nil:
		return r.finished(sum)
	case errors.As(err, &end):
		return end
	case errors.As(err, &signal):
		return &ending{Incomplete, Interrupted, signal.Exit, fmt.Sprintf("%s; %s", signal, so), again}
	}
	end = r.failure(err)
	if keyspace.KindOf(err) == keyspace.DumpVersion {
		end.message = fmt.Sprintf("the capsule is from %s, and %s is %s, which can't read its values", r.report.Capsule.Server, r.n.node.Addr(), r.n.info.Server())
	}
	end.message += "; " + so
	if !r.ask.DryRun && sum.Restored+sum.Uncertain > 0 {
		end.outcome, end.exit = Failed, ExitFailed
		end.hint += ". Then " + again
	}
	return end
}

// finished is the ending of a restore that went through the whole capsule.
func (r *restoring) finished(sum *RestoreReport) *ending {
	outcome, would := Restored, ""
	if r.ask.DryRun {
		outcome, would = Planned, "would have "
	}
	message := fmt.Sprintf("%srestored %d of %d keys (%s) on %s", would, sum.Restored, sum.Keys, ttlpolicy.FormatSize(sum.Bytes), r.n.node.Addr())
	for _, other := range []struct {
		count int64
		what  string
	}{
		{sum.Exists, "exist now and stay as they are"}, {sum.Expired, "would have expired by now"}, {sum.Stayed, "had not been deleted"},
		{sum.Unselected, "were not selected"}, {sum.Unfit, "can't be read by this server"}, {sum.Uncertain, "may be back"},
	} {
		if other.count > 0 {
			message += fmt.Sprintf("; %d %s", other.count, other.what)
		}
	}
	hint := ""
	if sum.Expired > 0 && !r.ask.FullTTL {
		hint = "--full-ttl brings back what has expired, too, for as long as it had left when it was taken"
	}
	switch {
	case len(r.file.Damage) > 0:
		return &ending{Incomplete, CapsuleDamaged, ExitIncomplete, message + "; the capsule is damaged, see the warning", hint}
	case r.file.Footer == nil:
		return &ending{Incomplete, CapsuleDamaged, ExitIncomplete, message + "; the capsule has no end, see the warning", hint}
	case sum.Unfit > 0:
		return &ending{Incomplete, Reason(keyspace.BadData), ExitIncomplete, message, "is a module missing on this server?"}
	case sum.Restored == 0:
		return &ending{Nothing, NothingLeft, ExitDone, message, hint}
	}
	return &ending{outcome, Complete, ExitDone, message, hint}
}
