package janitor

import (
	"context"

	"redis-janitor/ttlpolicy"
)

// account writes the ledger into the report.
func (n *nodeJob) account(ctx context.Context) {
	l := n.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.families {
		t, f := &l.families[i], &n.report.Families[i]
		f.Evicted, f.Refreshed, f.Failed, f.Uncertain = t.gone, t.refreshed, t.failed, t.uncertain
		f.Vanished = t.vanished + t.missed
		f.Kept = t.kept
		f.Eligible = t.gone + t.refreshed + t.vanished + t.failed + t.uncertain + t.kept.AboveWaterline
		f.Bytes = int64(t.bytes)
		f.WaterlineMS = waterline(n.cuts[i])
	}
	if lost := l.unanswered(); lost > 0 {
		n.warn(n, "", "uncertain", "%s did not answer for deletions of %d keys: they may be gone or not; what is left of them the next run takes", n.node.Addr(), lost)
	}
	if l.unmarked != "" {
		n.warn(n, "", "no_cooldown", "the time of this eviction cannot be written on %s (%s): the next run will not know of it", n.node.Addr(), l.unmarked)
	}
	if n.req.Command == DryRun {
		n.report.Memory.AfterBytes = max(n.reading.Used-int64(l.goneBytes), 0)
	}
	if n.report.Scanned > n.report.Keys {
		after := n.report.Keys
		if size, err := n.node.Size(ctx); err == nil {
			after = size
		}
		if n.report.Scanned > max(n.report.Keys, after) {
			n.warn(n, "", "duplicates_possible", "the walk of %s returned more keys (%d) than there were (%d): Redis was resizing its table, and some kept keys were counted twice",
				n.node.Addr(), n.report.Scanned, max(n.report.Keys, after))
		}
	}
}

// measureAfter reads memory once more when all is done.
func (n *nodeJob) measureAfter(ctx context.Context) error {
	if !n.acts() {
		return nil
	}
	patience := drainFor + n.req.Connection.CommandTimeout
	if hurried(ctx) {
		patience = parting
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	info, err := n.drained(ctx)
	if err != nil {
		return err
	}
	n.info = info
	before := n.reading
	after, err := n.readingOf(ctx)
	if err != nil {
		return err
	}
	n.report.Memory.AfterBytes, n.report.Memory.AfterRSSBytes = after.Used, after.RSS
	freed := n.ledger.freed()
	if freed > 1<<20 && after.RSS > 0 && before.RSS-after.RSS < freed/2 {
		n.warn(n, "", "rss_stays", "about %s were freed inside Redis, but its resident memory stays at %s: the allocator keeps pages for the next values. That is normal; deleting more would not change it (activedefrag, MEMORY PURGE or a restart would)",
			ttlpolicy.FormatSize(freed), ttlpolicy.FormatSize(after.RSS))
	}
	return nil
}
