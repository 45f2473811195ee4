package janitor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/lease"
	"redis-janitor/janitor/pace"
	"redis-janitor/janitor/probe"
	"redis-janitor/patterns"
	"redis-janitor/ttlpolicy"
)

// probe gives every node its level. A run that finds all of them ok ends here, before a single key
// has been looked at.
func (j *job) probe(ctx context.Context) error {
	if err := j.each(ctx, func(n *nodeJob) error { return n.read(ctx) }); err != nil {
		return err
	}
	highest := j.nodes[0]
	for _, n := range j.nodes {
		if n.level > highest.level || n.level == highest.level && n.reading.Ratio() > highest.reading.Ratio() {
			highest = n
		}
	}
	if highest.level > ttlpolicy.OK || j.req.Command == Explain {
		return nil
	}
	if j.req.Saved != nil {
		return &ending{Nothing, BelowThreshold, ExitDone, "memory was below the cleanup threshold when the plan was made: it is to evict nothing", ""}
	}
	if j.several() {
		return j.nothingAnywhere(highest)
	}
	return &ending{Nothing, BelowThreshold, ExitDone, fmt.Sprintf("memory is at %s of %s (%.1f%%), below the cleanup threshold of %s: nothing to do",
		ttlpolicy.FormatSize(highest.reading.Used), ttlpolicy.FormatSize(highest.reading.Limit), 100*highest.reading.Ratio(),
		ttlpolicy.FormatSize(highest.report.Memory.Levels.Cleanup)), ""}
}

// nothingAnywhere ends a run in which no node that answers is under pressure.
func (j *job) nothingAnywhere(highest *nodeJob) error {
	text := fmt.Sprintf("the fullest of %d nodes, %s, has %s of %s (%.1f%%), below the cleanup threshold of %s: nothing to do", len(j.report.Nodes), highest.node.Addr(),
		ttlpolicy.FormatSize(highest.reading.Used), ttlpolicy.FormatSize(highest.reading.Limit), 100*highest.reading.Ratio(),
		ttlpolicy.FormatSize(highest.report.Memory.Levels.Cleanup))
	for _, n := range j.nodes {
		n.report.Outcome, n.report.Reason = Nothing, BelowThreshold
	}
	return &ending{Nothing, BelowThreshold, ExitDone, text, ""}
}

// read takes as many readings as the policy wants to agree, and goes by the lowest: a peak that
// passes between two readings is no reason to delete.
func (n *nodeJob) read(ctx context.Context) error {
	policy := n.req.Policy.Memory
	for i := range policy.Readings {
		if i > 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(policy.Every):
			}
			info, err := n.node.Info(ctx)
			if err != nil {
				return err
			}
			n.info = info
		}
		reading, err := n.readingOf(ctx)
		if err != nil {
			return err
		}
		if err := policy.TargetFits(reading.Limit); err != nil {
			return fmt.Errorf("%s: %w", n.node.Addr(), err)
		}
		if i == 0 || reading.Ratio() < n.reading.Ratio() {
			n.level, n.reading = policy.Levels.LevelOf(reading.Ratio()), reading
		}
	}
	switch {
	case n.plan != nil:
		n.level = n.plan.Level
	case n.req.Level != ttlpolicy.OK:
		n.level = n.req.Level
	}
	n.memoryReport()
	n.probeWarnings()
	return n.choosePace()
}

// choosePace fits pipelines and batches to the level.
func (n *nodeJob) choosePace() (err error) {
	n.asked, err = pace.For(n.req.Pace, n.level)
	if err != nil {
		return err
	}
	n.pace = n.asked
	n.report.Pace = n.pace.Name
	n.pipelines = pace.NewSizer(n.pace, 50, n.pace.Page, &n.floor)
	return nil
}

// readingOf takes a reading from the INFO in hand.
func (n *nodeJob) readingOf(ctx context.Context) (probe.Reading, error) {
	policy := n.req.Policy.Memory
	reading, err := probe.Read(ctx, n.info, policy.Source, probe.Limit{Bytes: policy.Limit.Bytes, From: policy.Limit.From}, n.env.Machine)
	if errors.Is(err, probe.ErrLimit) {
		return reading, &ending{Refused, BadPolicy, ExitPolicy, fmt.Sprintf("%s: %v", n.node.Addr(), err), ""}
	}
	if err != nil {
		return reading, &ending{Refused, Reason("memory"), ExitNoServer, fmt.Sprintf("memory of %s cannot be read: %v", n.node.Addr(), err),
			"choose another source with --memory-source: redis, rss, host or cgroup"}
	}
	return reading, nil
}

func (n *nodeJob) memoryReport() {
	r, levels := n.reading, n.req.Policy.Memory.Levels
	share := func(x float64) int64 { return int64(x * float64(r.Limit)) }
	n.report.Level = n.level
	n.report.Memory = MemoryReport{
		Source: r.Source, UsedBytes: r.Used, LimitBytes: r.Limit, Ratio: r.Ratio(), TargetBytes: n.target(),
		AfterBytes: r.Used, RSSBytes: r.RSS, AfterRSSBytes: r.RSS, MaxMemory: r.MaxMemory, Fragmentation: r.Fragmentation,
		Levels: ThresholdsReport{share(levels.Cleanup), share(levels.Force), share(levels.Critical)},
	}
}

func (n *nodeJob) probeWarnings() {
	if levels := n.reading.Unreachable(n.req.Policy.Memory.Levels); len(levels) > 0 {
		names := make([]string, len(levels))
		for i, l := range levels {
			names[i] = l.String()
		}
		n.warn(n, "", "level_unreachable", "maxmemory of %s is %s, below the threshold of %s, which therefore can never be reached; set memory.limit to maxmemory, or to the memory this Redis really has",
			n.node.Addr(), ttlpolicy.FormatSize(n.reading.MaxMemory), strings.Join(names, ", "))
	}
	if left := n.untold(); len(left) > 0 && n.level != ttlpolicy.OK {
		n.warn(n, "", "info_incomplete", "INFO of %s leaves out %s", n.node.Addr(), strings.Join(left, ", "))
	}
	if n.reading.Elsewhere(n.node.Addr()) {
		n.warn(n, "", "memory_of_this_machine", "memory source %s tells of the machine this janitor runs on, which need not be %s's", n.reading.Source, n.node.Addr())
	}
	if n.keptByAllocator() && n.level != ttlpolicy.OK {
		n.warn(n, "", "rss_stays", "by source %s memory is above the target, but Redis on %s uses %s of its %s resident memory: the allocator keeps the rest for the next values, and deleting more would not bring it down (activedefrag, MEMORY PURGE or a restart would)",
			n.reading.Source, n.node.Addr(), ttlpolicy.FormatSize(n.reading.Allocated), ttlpolicy.FormatSize(n.reading.RSS))
	}
	if fork := n.info.Forking(); fork != "" && n.level != ttlpolicy.OK {
		n.warn(n, "", "fork_running", "%s has a %s running: every page that a deletion touches is copied until it ends, so memory may rise first", n.node.Addr(), fork)
	}
}

// untold lists what a service's INFO leaves out, and what therefore cannot be known.
func (n *nodeJob) untold() (left []string) {
	for _, field := range []struct{ name, so string }{
		{"run_id", "so a restart half-way would not be noticed"},
		{"role", "so whether it is a replica cannot be told"},
		{"maxmemory", "so whether it lies below a threshold cannot be told"},
	} {
		if n.info.Text(field.name) == "" {
			left = append(left, field.name+" ("+field.so+")")
		}
	}
	return left
}

// target is where the node's eviction stops, in bytes of the source; -1 for none.
func (n *nodeJob) target() int64 {
	t := n.req.Policy.Memory.Target
	switch {
	case t.None:
		return -1
	case t.Bytes > 0:
		return t.Bytes
	}
	return int64(t.Share * float64(n.reading.Limit))
}

// gated is whether a gate could hold back some node: the critical level does not wait for anybody.
func (j *job) gated() bool {
	return slices.ContainsFunc(j.nodes, func(n *nodeJob) bool { return n.level > ttlpolicy.OK && n.level < ttlpolicy.Critical })
}

// spare has a gate hold a node back, and ends the run where none is left that may act.
func (j *job) spare(why *ending, gated func(*nodeJob) bool) error {
	left := false
	for _, n := range j.nodes {
		if n.works() && gated(n) {
			n.spared = why
			n.report.Outcome, n.report.Reason = why.outcome, why.reason
		}
		left = left || n.works()
	}
	if left {
		return nil
	}
	return why
}

// busy keeps the janitor from interrupting people.
func (j *job) busy(ctx context.Context) error {
	policy := j.req.Policy.Busy
	users := &j.report.Users
	if j.req.ActiveUsers >= 0 {
		users.From, users.Active = "flag", j.req.ActiveUsers
	} else {
		active, err := j.countUsers(ctx, policy)
		var unknown *unknownUsers
		switch {
		case errors.As(err, &unknown):
			j.warn(nil, "", "users_unknown", "%s; going on as if nobody were at work", unknown.why)
		case err != nil:
			return err
		}
		users.Active = active
	}
	users.Busy = users.Active > policy.UsersOver
	return j.spareUsers()
}

// spareUsers holds back all but the critical level while many users are active.
func (j *job) spareUsers() error {
	users := j.report.Users
	if !users.Busy || !j.gated() || j.req.IgnoreBusy {
		return nil
	}
	message := fmt.Sprintf("%d users are active (by %s), more than %d: only the critical level acts now", users.Active, users.From, users.Over)
	if !j.acts() {
		j.warn(nil, "", "busy", "execute would skip this run: %s", message)
		return nil
	}
	return j.spare(j.skip(Busy, message, "nothing was deleted: the next run looks again, and --ignore-busy acts now"),
		func(n *nodeJob) bool { return n.level < ttlpolicy.Critical })
}

// unknownUsers reports that the number of active users can't be told.
type unknownUsers struct{ why string }

func (e *unknownUsers) Error() string { return e.why }

func (j *job) countUsers(ctx context.Context, policy BusyPolicy) (int64, error) {
	kind, name, _ := strings.Cut(policy.UsersFrom, ":")
	var owner *nodeJob
	if kind == "key" {
		if owner = j.ownerOf(name); owner == nil {
			return 0, &unknownUsers{fmt.Sprintf("users cannot be read from key %s: the node that has it is down", patterns.Quote(name))}
		}
	}
	var total atomic.Int64
	err := j.each(ctx, func(n *nodeJob) error {
		var count int64
		var err error
		switch kind {
		case "none":
		case "clients":
			// Asked anew: what this run has opened since is known, what it had then is not.
			info, err := n.node.Info(ctx)
			if err != nil {
				return err
			}
			all, ok := info.Int("connected_clients")
			if !ok {
				return &unknownUsers{"INFO does not tell connected_clients"}
			}
			count = max(all-n.node.Connections(), 0)
			j.warn(n, "", "users_are_connections", "users are counted from connections, which are an application's pools rather than people")
		case "key":
			if n != owner {
				return nil
			}
			if count, err = n.node.Count(ctx, name); err != nil {
				return unlessUnreachable(err, fmt.Sprintf("users cannot be read from key %s: %v", patterns.Quote(name), err))
			}
		case "family":
			if count, err = n.activeKeys(ctx, name, policy); err != nil {
				return err
			}
			if j.several() {
				n.census = nil // of many nodes they would be too many to keep
			}
		}
		total.Add(count)
		return nil
	})
	return total.Load(), err
}

// ownerOf is the node that has a key; nil where it is down.
func (j *job) ownerOf(key string) *nodeJob {
	owner := j.space.Owner(key)
	for _, n := range j.nodes {
		if n.node == owner && n.err == nil {
			return n
		}
	}
	return nil
}

// unlessUnreachable turns an answer that does not tell the users into "unknown", and leaves a
// server that does not answer an error.
func unlessUnreachable(err error, why string) error {
	switch keyspace.KindOf(err) {
	case keyspace.Unreachable, keyspace.Restarted, keyspace.Stopped, keyspace.Loading:
		return err
	}
	return &unknownUsers{why}
}

// planCounts is up to how many keys plan walks a keyspace for the busy gate: its cost must not grow with
// the number of keys, and execute counts anyway.
const planCounts = 200_000

// clearlyOver is how many times the limit even the low end of the sample's interval must be to settle that
// a site is busy. One time in a hundred, three of twenty users are among a few draws and look like a crowd.
const clearlyOver = 5

// activeKeys counts a family's keys of age ≤ active_within: by the sample where that settles which
// side of the limit they are on, and one by one where it doesn't.
func (n *nodeJob) activeKeys(ctx context.Context, name string, policy BusyPolicy) (int64, error) {
	family := n.req.Policy.familyIndex(name)
	if family < 0 {
		return 0, &unknownUsers{fmt.Sprintf("busy.users_from is family:%s, which this policy does not have", name)}
	}
	// A few draws tell a busy site from a quiet one; where they don't, the keys are counted.
	if err := n.survey(ctx, smallSample); err != nil {
		return 0, err
	}
	count, low, high := n.census.ActiveWithin(family, policy.ActiveWithin)
	unknown := n.census.UnknownAge(family)
	gating := n.gated() && !n.req.IgnoreBusy
	if over := float64(policy.UsersOver); gating && n.sampled && low <= clearlyOver*over && high > over {
		if n.req.Command == Plan && n.report.Keys > planCounts {
			n.warn(n, name, "users_unknown", "by the sample, between %.0f and %.0f users are active, and more than %d would hold execute back: it counts them, plan does not in so large a keyspace",
				math.Ceil(low), math.Floor(high), policy.UsersOver)
			return int64(count + 0.5), nil
		}
		census, err := n.count(ctx, n.set.FamilySuperset(family))
		if err != nil {
			return 0, err
		}
		count, _, _ = census.ActiveWithin(family, policy.ActiveWithin)
		unknown = census.UnknownAge(family)
	}
	if over := float64(policy.UsersOver); count <= over && count+unknown > over {
		n.warn(n, name, "users_unknown", "%.0f keys of family %s have no known age (no TTL, or one above the lifetime), so there may be more than the %.0f active users that could be counted", unknown, name, count)
	}
	return int64(count + 0.5), nil
}

// cooldown keeps janitors of all hosts from cleaning too often.
func (j *job) cooldown(ctx context.Context) error {
	if j.req.Policy.Cooldown <= 0 || j.req.IgnoreCooldown || !j.gated() {
		return nil
	}
	left := make(map[*nodeJob]time.Duration, len(j.nodes))
	var filling sync.Mutex
	err := j.each(ctx, func(n *nodeJob) error {
		rest, err := n.node.CooldownLeft(ctx)
		switch keyspace.KindOf(err) {
		case keyspace.NoPerm, keyspace.NoCommand:
			j.warn(n, "", "no_cooldown", "the time of the last eviction cannot be read on %s (%v): %s", n.node.Addr(), err, "allow the keys redis-janitor* (docs/acl.md)")
			return nil
		case keyspace.Moved:
			j.warn(n, "", "no_cooldown", "the time of the last eviction cannot be read on %s, whose slot for it is being moved (%v): going on as if there had been none", n.node.Addr(), err)
			return nil
		}
		filling.Lock()
		defer filling.Unlock()
		left[n] = rest
		return err
	})
	if err != nil {
		return err
	}
	for _, n := range j.nodes {
		if left[n] == 0 || !n.works() || n.level == ttlpolicy.Critical {
			continue
		}
		message := fmt.Sprintf("keys were evicted on %s less than %s ago: only the critical level acts within the next %s",
			n.node.Addr(), ttlpolicy.FormatDuration(j.req.Policy.Cooldown), ttlpolicy.FormatDuration(left[n].Round(time.Second)))
		if !j.acts() {
			j.warn(n, "", "cooldown", "execute would skip this run: %s", message)
			continue
		}
		if err := j.spare(j.skip(Cooldown, message, "nothing was deleted: the next run looks again, and --ignore-cooldown acts now"), func(other *nodeJob) bool { return other == n }); err != nil {
			return err
		}
	}
	return nil
}

// takeLease makes this the only janitor at work; plan and dry-run mention another one. What another one may have done in between is looked
// at once more when it is ours.
func (j *job) takeLease(ctx context.Context) error {
	if !j.acts() {
		// Where it can't be read it is not known, and execute itself would find out.
		if holder, held, err := j.space.LeaseHolder(ctx); err == nil && held {
			j.warn(nil, "", "lease_held", "execute would skip this run: %v", &lease.HeldError{By: holder.Name, Since: holder.Since})
		}
		return nil
	}
	err := j.each(ctx, func(n *nodeJob) error {
		if !n.works() {
			return nil
		}
		return n.node.CanEvict(ctx)
	})
	if err != nil {
		return err
	}
	taken, err := lease.Take(ctx, j.space, lease.Options{Name: j.env.Name, Since: j.started, Wait: j.req.Wait, LockDir: j.env.LockDir})
	var held *lease.HeldError
	if errors.As(err, &held) {
		return j.skip(LeaseHeld, held.Error(), "nothing was deleted; --wait DURATION waits for it to finish")
	}
	if err != nil {
		return err
	}
	j.lease = taken
	if taken.Unwritten != nil {
		j.warn(nil, "", "no_lease", "the lease cannot be written (%v): only other janitors on this host are kept away", taken.Unwritten)
	}
	if j.cooldownMark() == 0 && j.req.Policy.Cooldown > 0 {
		j.warn(nil, "", "no_cooldown", "the cooldown cannot be written either: the next run will not know of this one")
	}
	err = j.each(ctx, func(n *nodeJob) error {
		info, err := n.node.Info(ctx)
		if err == nil {
			err = n.node.Demoted(info)
		}
		if err != nil {
			return err
		}
		n.info, n.spared = info, nil
		return nil
	})
	if err != nil {
		return err
	}
	if err := j.probe(ctx); err != nil {
		return err
	}
	// Waiting for a person or another janitor may have taken long.
	if err := j.paused(ctx); err != nil {
		return err
	}
	// The level may have fallen from the critical one, for which these gates were open.
	if err := j.spareUsers(); err != nil {
		return err
	}
	return j.cooldown(ctx)
}

// cooldownMark is how long the cooldown that this run's deletions start is to last; 0 where none
// can be written. What refuses the lease as a key refuses this one too; a cluster's server that is down, or a slot that
// is on its way, refuses nothing on the others.
func (j *job) cooldownMark() time.Duration {
	if j.lease == nil {
		return 0
	}
	if err := j.lease.Unwritten; err != nil && !isDown(err) {
		if kind := keyspace.KindOf(err); kind != keyspace.ClusterDown && kind != keyspace.Moved {
			return 0
		}
	}
	return j.req.Policy.Cooldown
}
