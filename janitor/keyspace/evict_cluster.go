package keyspace

import (
	"context"
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"
)

// evictBySlot is Evict on a cluster's node: one script names keys of one slot only, so a batch is as many
// scripts as its keys have slots, sent together. Nor can the script look at the lease or set the
// cooldown, which have slots of their own: the lease is looked at by the clock before a batch, and the
// cooldown is set right behind the first script, in the same write to the socket.
func (n *Node) evictBySlot(ctx context.Context, b Batch) (Removal, error) {
	r := Removal{Fates: repeat(Deferred, len(b.Keys))}
	if b.Tell {
		r.TTLs, r.Sizes = slices.Repeat([]int64{Untold}, len(b.Keys)), slices.Repeat([]int64{Untold}, len(b.Keys))
	}
	groups := bySlot(b.Keys)
	for len(groups) > 0 && r.Refusal == nil && (b.MaxBytes <= 0 || r.Bytes < b.MaxBytes) {
		now := groups
		if b.Uneven {
			// Values may be huge, so each group is weighed before the next one goes: the batch has an end by bytes.
			now = groups[:1]
		}
		groups = groups[len(now):]
		if err := n.evictGroups(ctx, b, now, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// bySlot puts together the places of keys that share a slot, in the order of the keys.
func bySlot(keys []string) [][]int {
	var groups [][]int
	at := make(map[int]int, len(keys))
	for i, key := range keys {
		slot := SlotOf(key)
		group, ok := at[slot]
		if !ok {
			group = len(groups)
			at[slot], groups = group, append(groups, nil)
		}
		groups[group] = append(groups[group], i)
	}
	return groups
}

// evictGroups has every group's script run, and gives the server the script where it has forgotten it.
func (n *Node) evictGroups(ctx context.Context, b Batch, groups [][]int, r *Removal) error {
	for attempt := 0; ; attempt++ {
		if err := n.CanEvict(ctx); err != nil {
			return err
		}
		err := n.sendGroups(ctx, b, groups, r)
		if KindOf(err) != NoScript || attempt == 2 {
			return err
		}
		groups = slices.DeleteFunc(slices.Clone(groups), func(places []int) bool { return r.Fates[places[0]] != Deferred })
	}
}

// sendGroups sends one script a group and enters what became of the keys.
func (n *Node) sendGroups(ctx context.Context, b Batch, groups [][]int, r *Removal) error {
	sent := make([]*redis.Cmd, len(groups))
	var mark *redis.Cmd
	pipe := n.data.Pipeline()
	for g, places := range groups {
		part := b.part(places)
		sent[g] = pipe.EvalSha(ctx, evictScript.digest, part.Keys, n.arguments(part, "", 0)...)
		if g == 0 && b.Cooldown > 0 {
			mark = pipe.EvalSha(ctx, markScript.digest, []string{n.cooldownKey()}, b.Mark, b.Cooldown.Milliseconds())
		}
	}
	_, _ = pipe.Exec(ctx) // each answer is looked at below
	var failure error
	for g, places := range groups {
		if err := n.settleGroup(ctx, b, sent[g], places, r); err != nil && failure == nil {
			failure = err
		}
	}
	if mark != nil {
		var answer redis.Error
		r.Unmarked = "" // what was said of an earlier try
		switch err := mark.Err(); {
		case errors.As(err, &answer):
			r.Unmarked = answer.Error()
		case err == nil && mark.Val() != int64(1):
			r.Unmarked = "WRONGTYPE " + n.cooldownKey() + " is in use for something else"
		}
	}
	return failure
}

// settleGroup enters one script's answer. An error that is returned ends the walk, or has it begin again.
func (n *Node) settleGroup(ctx context.Context, b Batch, cmd *redis.Cmd, places []int, r *Removal) error {
	enter := func(fates []Fate) {
		for i, place := range places {
			r.Fates[place] = fates[i]
		}
	}
	answer, err := cmd.Result()
	if err != nil {
		wrapped := n.scriptError(ctx, "evict", err)
		var e *Error
		switch errors.As(wrapped, &e); {
		case e != nil && e.Kind == Moved:
			enter(repeat(KeptMoved, len(places)))
			return nil
		case e != nil && e.Kind == NoScript:
			n.loaded.forget(evictScript.digest)
			n.loaded.forget(markScript.digest)
		case e != nil && e.Sent:
			enter(repeat(Uncertain, len(places)))
		}
		return wrapped
	}
	one, err := n.removal(answer, len(places))
	enter(one.Fates)
	if b.Tell {
		for i, place := range places {
			r.TTLs[place], r.Sizes[place] = one.Told(i)
		}
	}
	r.Measured += one.Measured
	r.Bytes += one.Bytes
	if r.Refusal == nil {
		r.Refusal = one.Refusal
	}
	return err
}
