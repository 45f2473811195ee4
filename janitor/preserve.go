package janitor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/receipt"
)

// CapsuleValue is up to which size a value is put into a capsule where nothing else is said: reading a
// larger one would hold the server for milliseconds.
const CapsuleValue = 1 << 20

// captureShare is what part of a batch's bytes a capsule's batch may have: its values are read, compressed and
// checked by the server, which takes it several times as long as freeing them.
const captureShare = 8

// capsuleCanBe refuses a capsule's name before anything is looked at.
func (j *job) capsuleCanBe() error {
	if j.req.Capsule == "" {
		return nil
	}
	if err := receipt.Absent(j.req.Capsule); err != nil {
		return &ending{Refused, Guard, ExitRefused, fmt.Sprintf("the capsule cannot be begun: %v", err), ""}
	}
	return nil
}

// openCapsule begins the file that this run fills before it deletes.
func (j *job) openCapsule(ctx context.Context) error {
	if j.req.Capsule == "" || !j.acts() {
		return nil
	}
	if err := j.each(ctx, func(n *nodeJob) error { return n.node.CanCapture(ctx) }); err != nil {
		return err
	}
	first := j.nodes[0]
	var id capsule.ID
	binary.LittleEndian.PutUint64(id[:], j.env.Random.Uint64())
	w, err := capsule.Create(j.req.Capsule, capsule.Header{
		MadeAt: j.env.Now().UTC(), By: "redis-janitor " + j.req.Version, Addr: first.node.Addr(), RunID: first.info.Text("run_id"),
		Server: first.info.Server(), DB: first.node.DB(), Policy: j.req.Policy.Name, SHA256: j.req.Policy.SHA256(),
	}, id, j.req.CapsuleMax)
	if err != nil {
		return unstored(err)
	}
	j.capsule = w
	return nil
}

// closeCapsule ends the file, once it is known how the run ended.
func (j *job) closeCapsule() {
	if j.capsule == nil {
		return
	}
	err := j.capsule.Close(capsule.Footer{EndedAt: j.env.Now().UTC(), Outcome: string(j.report.Outcome), Reason: string(j.report.Reason)})
	size, keys := j.capsule.Totals()
	if keys > 0 {
		j.report.Capsule = &CapsuleReport{File: j.capsule.Path(), Keys: keys, Bytes: size}
	}
	if err != nil {
		j.warn(nil, "", "capsule_unfinished", "%v; all keys that were deleted are in it, only its end is missing", err)
	}
}

// hold runs one command in its turn. It took no time where the run was stopped before the turn came.
func (w *walker) hold(ctx context.Context, command func(context.Context) error) (took time.Duration, err error) {
	err = w.governor.Run(ctx, func() error {
		start := time.Now()
		// The batch in hand is finished even when the run is being stopped: a command cannot be
		// called back, only its answer lost.
		err := command(context.WithoutCancel(ctx))
		took = time.Since(start)
		return err
	})
	return took, err
}

// send carries out a batch, and tells how long its longest command took.
func (w *walker) send(ctx context.Context, p parcel) (r keyspace.Removal, took time.Duration, err error) {
	if w.capsule != nil {
		return w.preserve(ctx, p)
	}
	took, err = w.hold(ctx, func(ctx context.Context) (err error) {
		r, err = w.remove(ctx, w.batch(p))
		return err
	})
	return r, took, err
}

// preserve carries out a batch in three steps: its values are read from those keys that qualify, then written
// to the capsule and on to the disk, and only then deleted, where they still are as they were read.
func (w *walker) preserve(ctx context.Context, p parcel) (r keyspace.Removal, took time.Duration, err error) {
	var c keyspace.Capture
	batch := w.batch(p)
	took, err = w.hold(ctx, func(ctx context.Context) (err error) {
		c, err = w.node.Capture(ctx, batch, w.req.CapsuleMaxValue)
		return err
	})
	r = keyspace.Removal{Fates: c.Fates, Refusal: c.Refusal, TTLs: c.TTLs}
	if err != nil || !slices.Contains(c.Fates, keyspace.Gone) {
		return r, took, err
	}
	block := capsule.Block{Addr: w.node.Addr(), DB: w.node.DB(), Family: w.rules[p.family].Family}
	stored := w.batch(p)
	stored.Keys, stored.MaxBytes = nil, 0
	// Reading began the idle times anew, and what goes has been judged.
	stored.MinIdle, stored.Lifetime = 0, 0
	for i, fate := range c.Fates {
		if v := c.Values[i]; fate == keyspace.Gone {
			stored.Keys, stored.Stored = append(stored.Keys, p.keys[i]), append(stored.Stored, v)
			block.Entries = append(block.Entries, capsule.Entry{Key: p.keys[i], Type: v.Type, ExpiresAt: v.ExpiresAt, TTL: v.TTL, Value: v.Value})
		}
	}
	number, err := w.capsule.Add(block)
	if err != nil {
		enter(&r, keyspace.Removal{Fates: slices.Repeat([]keyspace.Fate{keyspace.Deferred}, len(stored.Keys))})
		return r, took, unstored(err)
	}
	var gone keyspace.Removal
	// What is in the capsule is deleted also where the run is being stopped: it is the batch in hand.
	evicting, err := w.hold(context.WithoutCancel(ctx), func(ctx context.Context) (err error) {
		gone, err = w.remove(ctx, stored)
		return err
	})
	enter(&r, gone)
	written := make([]capsule.Fate, len(gone.Fates))
	for i, fate := range gone.Fates {
		written[i] = capsule.Fate(fate)
	}
	return r, max(took, evicting), errors.Join(err, unstored(w.capsule.Settle(number, written)))
}

// unstored marks an error of the capsule's file, but for the one that says that its limit is reached.
func unstored(err error) error {
	if err == nil || errors.Is(err, capsule.ErrFull) {
		return err
	}
	return unwritten{err}
}

// enter puts what became of the captured keys in the place of their capture.
func enter(r *keyspace.Removal, gone keyspace.Removal) {
	r.Sizes = slices.Repeat([]int64{keyspace.Untold}, len(r.Fates))
	next := 0
	for i, fate := range r.Fates {
		if fate == keyspace.Gone {
			r.Fates[i] = gone.Fates[next]
			_, r.Sizes[i] = gone.Told(next)
			next++
		}
	}
	r.Measured, r.Bytes, r.Unmarked = gone.Measured, gone.Bytes, gone.Unmarked
	if gone.Refusal != nil {
		r.Refusal = gone.Refusal
	}
}

// batchBytes is how large a batch's values may be together.
func (w *walker) batchBytes() int64 {
	if w.capsule != nil {
		return w.pace.Bytes / captureShare
	}
	return w.pace.Bytes
}
