package janitor

import (
	"context"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// judge warns before anything is written where the next execute would take the same keys again: memory is at a level
// by the policy, or comes to one by what is put back. That is for a person to weigh, so it holds nothing up.
func (r *restoring) judge(ctx context.Context) error {
	policy := r.ask.Policy
	if len(policy.Families) == 0 { // none was given
		return nil
	}
	coming, err := r.coming(ctx)
	if err != nil {
		return err
	}
	for _, n := range r.nodes {
		reading, err := n.readingOf(ctx)
		if err != nil {
			r.warn(n, "", "memory_unknown", "whether the next execute would take the same keys again cannot be told: %v", err)
			continue
		}
		values := coming[n.node]
		after := reading
		after.Used += values
		if policy.Memory.Levels.LevelOf(after.Ratio()) == ttlpolicy.OK {
			continue
		}
		from := ttlpolicy.FormatSize(int64(policy.Memory.Levels.Cleanup * float64(reading.Limit)))
		then := "so the next execute would take the same keys again: hold it back first, with the key " + keyspace.PauseKey
		if policy.Memory.Levels.LevelOf(reading.Ratio()) != ttlpolicy.OK {
			r.warn(n, "", "memory_above_threshold", "memory of %s is at %s of %s, not below the cleanup threshold of %s, %s",
				n.node.Addr(), ttlpolicy.FormatSize(reading.Used), ttlpolicy.FormatSize(reading.Limit), from, then)
			continue
		}
		r.warn(n, "", "memory_above_threshold", "memory of %s is at %s of %s, and with up to about %s of values (an estimate) it comes to the cleanup threshold of %s, %s",
			n.node.Addr(), ttlpolicy.FormatSize(reading.Used), ttlpolicy.FormatSize(reading.Limit), ttlpolicy.FormatSize(values), from, then)
	}
	return nil
}

// coming estimates how many bytes each server is to take, by the values as DUMP wrote them. Which keys exist it does
// not ask: that costs a look at each.
func (r *restoring) coming(ctx context.Context) (map[*keyspace.Node]int64, error) {
	bytes := map[*keyspace.Node]int64{}
	for i := range r.file.Blocks() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		block, fates, err := r.file.Block(i)
		if err != nil {
			return nil, err
		}
		for k, entry := range block.Entries {
			to := r.servers[r.space.Owner(entry.Key)]
			if to != nil && fates[k].Restorable() && r.selected(block.Family, entry.Key) && !r.expired(entry, to.clock) {
				bytes[to.node] += int64(len(entry.Value))
			}
		}
	}
	return bytes, nil
}
