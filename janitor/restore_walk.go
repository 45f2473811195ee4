package janitor

import (
	"cmp"
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
	family string
	counts *RestoreCounts
}

// visit goes through the whole blocks and hands on what is to come back, batch by batch, each to the server that
// has its slot. Of a key that was taken twice the later value is the right one: it comes first where what is there
// stays, and last where it is replaced.
func (r *restoring) visit(ctx context.Context, carryOut func(context.Context, *receiver) error) error {
	for _, to := range r.servers {
		to.sizer = pace.NewSizer(to.pace, min(20, to.pace.Keys), to.pace.Keys, &to.floor)
	}
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
			if err := r.weigh(ctx, block.Family, entry, fates[k], counts, carryOut); err != nil {
				return err
			}
		}
	}
	for _, n := range r.nodes {
		if err := r.flush(ctx, r.servers[n.node], carryOut); err != nil {
			return err
		}
	}
	return nil
}

// weigh decides on one key, and sends it on its way where it is to come back.
func (r *restoring) weigh(ctx context.Context, family string, entry capsule.Entry, fate capsule.Fate, counts *RestoreCounts,
	carryOut func(context.Context, *receiver) error) error {
	counts.Keys++
	to := r.servers[r.space.Owner(entry.Key)]
	switch {
	case !fate.Restorable():
		counts.Stayed++
		return r.passOver(family, entry, "stayed")
	case !r.selected(family, entry.Key):
		counts.Unselected++
	case to == nil: // it is down
		counts.NotReached++
	case r.expired(entry, to.clock):
		counts.Expired++
		return r.passOver(family, entry, "expired")
	default:
		counts.NotReached++ // until its batch is carried out
		to.batch = append(to.batch, candidate{r.comingBack(entry, fate), family, counts})
		to.bytes += len(entry.Value)
		if len(to.batch) >= to.sizer.Size() || to.bytes >= restoreBytes {
			return r.flush(ctx, to, carryOut)
		}
	}
	return nil
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
func (r *restoring) expired(e capsule.Entry, clock time.Duration) bool {
	return !r.ask.FullTTL && e.ExpiresAt >= 0 && e.ExpiresAt <= r.env.Now().Add(clock).UnixMilli()
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

// flush carries out a server's batch. It is finished even when the run is being stopped.
func (r *restoring) flush(ctx context.Context, to *receiver, carryOut func(context.Context, *receiver) error) error {
	if len(to.batch) == 0 {
		return nil
	}
	keys, took := len(to.batch), time.Duration(0)
	err := to.governor.Run(ctx, func() error {
		start := time.Now()
		err := carryOut(context.WithoutCancel(ctx), to)
		took = time.Since(start)
		return err
	})
	to.batch, to.bytes = to.batch[:0], 0
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	to.sizer.Took(keys, took)
	sum := r.sum()
	r.nodes[0].progress(Progress{Phase: "restore", Keys: sum.Keys, Scanned: sum.Keys - sum.NotReached, Evicted: sum.Restored, FreedBytes: sum.Bytes})
	return nil
}

// putBack sends a batch.
func (r *restoring) putBack(ctx context.Context, to *receiver) error {
	keys := make([]keyspace.PutBack, len(to.batch))
	for i, c := range to.batch {
		keys[i] = c.PutBack
	}
	became, err := to.node.Restore(ctx, keys)
	for i, c := range to.batch {
		c.became(became[i])
	}
	return errors.Join(err, r.note(to, became, err))
}

// look finds out what would become of a batch, by commands that read.
func (r *restoring) look(ctx context.Context, to *receiver) error {
	keys := make([]string, len(to.batch))
	for i, c := range to.batch {
		keys[i] = c.Key
	}
	facts, err := to.node.Facts(ctx, keys, keyspace.Ask{})
	if err != nil {
		return err
	}
	became := make([]keyspace.Comeback, len(to.batch))
	for i, c := range to.batch {
		switch {
		case facts[i].Expiry == ttlpolicy.Missing:
			became[i] = keyspace.CameBack
		case c.Replace:
			became[i] = keyspace.CameBack
			c.counts.Replaced++
		case facts[i].Expiry == ttlpolicy.UnknownExpiry:
			became[i] = keyspace.MaybeBack
		default:
			became[i] = keyspace.Exists
		}
		c.became(became[i])
	}
	return r.note(to, became, nil)
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
		sum.Replaced += f.Replaced
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
	if end = r.failure(err); isUnwritten(err) {
		end = &ending{Failed, File, ExitNoServer, err.Error(), "make room, or give the name of a file on another disk"}
	}
	if keyspace.KindOf(err) == keyspace.DumpVersion {
		end.message = fmt.Sprintf("the capsule is from %s, and %s is %s, which can't read its values", cmp.Or(r.report.Capsule.Server, "another version"),
			r.nodes[0].node.Addr(), r.nodes[0].info.Server())
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
	where := r.nodes[0].node.Addr()
	if r.several() {
		where = fmt.Sprintf("%d nodes", len(r.nodes))
	}
	message := fmt.Sprintf("%srestored %d of %d keys (%s) on %s", would, sum.Restored, sum.Keys, ttlpolicy.FormatSize(sum.Bytes), where)
	if sum.Replaced > 0 {
		message += fmt.Sprintf(", over %d that exist now", sum.Replaced)
	}
	for _, other := range []struct {
		count int64
		what  string
	}{
		{sum.Exists, "exist now and stay as they are"}, {sum.Expired, "would have expired by now"}, {sum.Stayed, "had not been deleted"},
		{sum.Unselected, "were not selected"}, {sum.Unfit, "can't be read by this server"}, {sum.Uncertain, "may be back"},
		{sum.NotReached, "belong to servers that are down"},
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
	case sum.NotReached > 0:
		return &ending{Incomplete, NodeDown, ExitIncomplete, message, "run again when they are back: what is back stays as it is"}
	case len(r.file.Damage) > 0:
		return &ending{Incomplete, CapsuleDamaged, ExitIncomplete, message + "; the capsule is damaged, see the warning", hint}
	case r.file.Footer == nil:
		return &ending{Incomplete, CapsuleDamaged, ExitIncomplete, message + "; the capsule has no end, see the warning", hint}
	case sum.Unfit > 0:
		return &ending{Incomplete, Reason(keyspace.BadData), ExitIncomplete, message, "is a module missing on this server?"}
	case sum.Restored == 0:
		if sum.Unselected == sum.Keys && sum.Keys > 0 {
			hint = "no key of the capsule is of that --family and matches that --match; restore --dry-run without them shows what there is"
		}
		return &ending{Nothing, NothingLeft, ExitDone, message, hint}
	}
	if hint == "" && !r.ask.DryRun {
		hint = "memory has risen by what came back: hold execute off with the key " + keyspace.PauseKey + " until it is clear what is to stay, or it takes the same keys again"
	}
	return &ending{outcome, Complete, ExitDone, message, hint}
}
