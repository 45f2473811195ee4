package janitor

import (
	"errors"
	"fmt"
	"time"

	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/receipt"
	"redis-janitor/ttlpolicy"
)

// unwritten marks what a file that was asked for refused: a run that cannot be recorded doesn't go on.
type unwritten struct{ error }

func (e unwritten) Unwrap() error { return e.error }

// receiptCanBegin refuses a receipt's name before anything is looked at, also where there will be nothing to do.
func (j *job) receiptCanBegin() error {
	if j.req.Receipt == "" {
		return nil
	}
	if err := receipt.Absent(j.req.Receipt); err != nil {
		return &ending{Refused, Guard, ExitRefused, fmt.Sprintf("the receipt cannot be begun: %v", err), ""}
	}
	return nil
}

// beginReceipt creates the file once keys are about to be decided on: a run that a gate sends home leaves
// none in the way of the next one.
func (j *job) beginReceipt() (err error) {
	if j.req.Receipt == "" {
		return nil
	}
	h := receipt.Header{Command: j.report.Command, Version: j.report.Version, StartedAt: j.report.StartedAt,
		Policy: receipt.Policy(j.report.Policy)}
	if j.req.Saved != nil {
		h.Plan = j.req.Saved.ID
	}
	for _, n := range j.nodes {
		h.Servers = append(h.Servers, receipt.Server{Addr: n.report.Addr, RunID: n.report.RunID, DB: n.report.DB})
	}
	if j.receipt, err = receipt.Create(j.req.Receipt, h); err != nil {
		return unwritten{err}
	}
	return nil
}

// closeReceipt writes the footer from the finished report. Its error is that of a run that went well but for
// its record.
func (j *job) closeReceipt(totals any) error {
	if j.receipt == nil {
		return nil
	}
	r := j.report
	began := j.receipt.Err() == nil
	err := j.receipt.Close(receipt.Footer{EndedAt: j.env.Now().UTC(), DurationMS: r.DurationMS,
		Result: string(r.Outcome), Reason: string(r.Reason), ExitCode: r.ExitCode, Totals: totals})
	switch {
	case err == nil || !began:
	case r.ExitCode == ExitDone || r.ExitCode == ExitToEvict:
		return unwritten{err}
	default:
		j.warn(nil, "", "receipt_unfinished", "the receipt %s has no footer: %v", j.req.Receipt, err)
	}
	return nil
}

// unwrittenEnding is how a run ends whose file could not be written.
func (j *job) unwrittenEnding(err error) *ending {
	end := &ending{Failed, File, ExitNoServer, fmt.Sprintf("%v; %s", err, j.soFar()), "make room, or give the name of a file on another disk"}
	if j.deleted() {
		end.exit = ExitFailed
	}
	return end
}

// line is what the receipt says of a key.
func (n *nodeJob) line(key string, family int, outcome string, reason ttlpolicy.Reason, ttl int64) receipt.Key {
	k := receipt.Key{Key: key, Family: n.rules[family].Family, Outcome: outcome, Reason: string(reason), TTL: ttl, Age: -1, Bytes: -1}
	if left, lifetime := time.Duration(ttl)*time.Millisecond, n.rules[family].Lifetime; ttl >= 0 && left <= lifetime {
		k.Age = lifetime - left
	}
	return k
}

// keep counts a key that stays, and notes it.
func (w *walker) keep(key string, family int, reason ttlpolicy.Reason, ttl int64) {
	if w.ledger.keep(family, reason) && w.receipt != nil {
		w.noteKept(w.line(key, family, "kept", reason, ttl))
	}
}

// missed counts a key that was gone before it could be judged, and notes it.
func (w *walker) missed(key string, family int) {
	if w.ledger.missed(family) && w.receipt != nil {
		w.noteKept(w.line(key, family, "vanished", ttlpolicy.ReasonNone, keyspace.Untold))
	}
}

// outcomes are what the fates of a batch's keys are called.
var outcomes = map[keyspace.Fate]string{
	keyspace.Gone: "evicted", keyspace.Refreshed: "refreshed", keyspace.Vanished: "vanished", keyspace.NotDone: "failed", keyspace.Uncertain: "uncertain",
}

// note writes down what became of a batch, and why of what failed. Its error ends the run before the next one.
func (w *walker) note(p parcel, r keyspace.Removal, why error) error {
	if w.receipt == nil {
		return nil
	}
	lines := make([]receipt.Key, 0, len(p.keys))
	for i, fate := range r.Fates {
		if fate == keyspace.Deferred {
			continue
		}
		ttl, bytes := r.Told(i)
		if ttl == keyspace.Untold {
			ttl = p.ttls[i]
		}
		outcome, known := outcomes[fate]
		if !known {
			outcome = "kept"
		}
		k := w.line(p.keys[i], p.family, outcome, reasonFor(fate, ttl, why), ttl)
		if fate == keyspace.Gone || fate == keyspace.Uncertain {
			k.Bytes = bytes
		}
		lines = append(lines, k)
	}
	if err := w.receipt.Batch(lines); err != nil {
		return unwritten{err}
	}
	return nil
}

// reasonFor is why a key met its fate, in the policy's words where it went.
func reasonFor(fate keyspace.Fate, ttl int64, why error) ttlpolicy.Reason {
	switch fate {
	case keyspace.Gone:
		if ttl == -1 {
			return "no_ttl"
		}
		return "older_than"
	case keyspace.NotDone, keyspace.Uncertain:
		return ttlpolicy.Reason(keyspace.KindOf(why))
	case keyspace.Refreshed, keyspace.Vanished:
		return ttlpolicy.ReasonNone
	}
	return keptReason(fate)
}

// noteKept writes down a key on which no batch hangs.
func (w *walker) noteKept(k receipt.Key) {
	if err := w.receipt.Keep(k); err != nil {
		w.ledger.stop(File, unwritten{err})
	}
}

// isUnwritten is whether an error is of a file that could not be written.
func isUnwritten(err error) bool {
	var refused unwritten
	return errors.As(err, &refused)
}

// comebacks are what is said of keys on their way back, with the reason where they did not come.
var comebacks = map[keyspace.Comeback]struct{ outcome, reason string }{
	keyspace.CameBack: {"restored", ""}, keyspace.Exists: {"kept", "exists"}, keyspace.Unfit: {"failed", "unfit"}, keyspace.MaybeBack: {"uncertain", ""},
}

// note writes down which keys of a batch are back, and why of what failed.
func (r *restoring) note(to *receiver, became []keyspace.Comeback, why error) error {
	if r.receipt == nil {
		return nil
	}
	lines := make([]receipt.Key, 0, len(became))
	for i, c := range to.batch {
		said, known := comebacks[became[i]]
		if !known { // it was not sent
			continue
		}
		k := receipt.Key{Key: c.Key, Family: c.family, Outcome: said.outcome, Reason: said.reason, TTL: -1, Age: -1, Bytes: int64(len(c.Value))}
		switch {
		case c.TTL > 0:
			k.TTL = c.TTL
		case c.ExpiresAt > 0:
			k.TTL = max(c.ExpiresAt-r.env.Now().Add(to.clock).UnixMilli(), 0)
		}
		if said.outcome == "uncertain" && why != nil {
			k.Reason = string(keyspace.KindOf(why))
		}
		lines = append(lines, k)
	}
	if err := r.receipt.Batch(lines); err != nil {
		return unwritten{err}
	}
	return nil
}

// passOver writes down a key that is in the capsule and does not come back.
func (r *restoring) passOver(family string, e capsule.Entry, reason string) error {
	if r.receipt == nil {
		return nil
	}
	if err := r.receipt.Keep(receipt.Key{Key: e.Key, Family: family, Outcome: "skipped", Reason: reason, TTL: keyspace.Untold, Age: -1, Bytes: int64(len(e.Value))}); err != nil {
		return unwritten{err}
	}
	return nil
}
