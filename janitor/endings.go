package janitor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// ending is how a run came to its end before, or instead of, deleting. It travels as an error so
// that every step can end the run, but most endings are nothing wrong.
type ending struct {
	outcome Outcome
	reason  Reason
	exit    int
	message string
	hint    string
}

func (e *ending) Error() string { return e.message }

// skip is the ending of a gate: exit 0, so that cron stays quiet, unless a hook wants to know.
func (j *job) skip(reason Reason, message, hint string) *ending {
	exit := ExitDone
	if j.req.FailIfSkipped {
		exit = ExitIncomplete
	}
	return &ending{Skipped, reason, exit, message, hint}
}

// warn adds a warning once. n and family say where it belongs; both may be empty.
func (j *job) warn(n *nodeJob, family, code, format string, args ...any) {
	w := Warning{Code: code, Message: fmt.Sprintf(format, args...), Family: family}
	if n != nil {
		w.Node = n.node.Addr()
	}
	j.tell(w)
}

// tell adds a warning, of each kind one for a node and a family.
func (j *job) tell(w Warning) {
	j.telling.Lock()
	defer j.telling.Unlock()
	for _, old := range j.report.Warnings {
		if old == w || old.Code == w.Code && old.Node == w.Node && old.Family == w.Family {
			return
		}
	}
	j.report.Warnings = append(j.report.Warnings, w)
}

// settle writes the run's end into the report.
func (j *job) settle(err error) {
	var end *ending
	var signal *Signal
	switch {
	case err == nil:
		end = j.finished()
	case errors.As(err, &end):
		if end.outcome == Skipped || end.reason == BelowThreshold {
			end = j.unlessDown(end)
		}
	case errors.As(err, &signal):
		end = &ending{Incomplete, Interrupted, signal.Exit, fmt.Sprintf("%s; %s", signal, j.soFar()), j.goOn() + ": nothing is half done"}
	case errors.Is(err, errDeadline):
		end = &ending{Incomplete, Deadline, ExitIncomplete, fmt.Sprintf("the deadline of %s passed; %s", ttlpolicy.FormatDuration(j.req.Deadline), j.soFar()),
			j.goOn() + ", or give a longer --deadline"}
	case errors.Is(err, keyspace.ErrFenced):
		end = &ending{Incomplete, LeaseLost, ExitIncomplete, fmt.Sprintf("the janitor's lease ran out while it stood still, and another janitor may be at work; %s", j.soFar()), ""}
	case isUnwritten(err):
		end = j.unwrittenEnding(err)
	case errors.Is(err, capsule.ErrFull):
		end = &ending{Incomplete, CapsuleFull, ExitIncomplete, fmt.Sprintf("--capsule-max %s is reached; %s", ttlpolicy.FormatSize(j.req.CapsuleMax), j.soFar()),
			j.goOn() + " and another --capsule FILE, or give a larger --capsule-max"}
	default:
		end = j.failure(err)
	}
	j.write(end)
}

// write puts an ending into the report.
func (j *job) write(end *ending) {
	r := j.report
	for i := range r.Nodes {
		if n := &r.Nodes[i]; n.Outcome == "" {
			n.Outcome, n.Reason = end.outcome, end.reason
		}
	}
	r.Outcome, r.Reason, r.ExitCode, r.Message, r.Hint = end.outcome, end.reason, end.exit, end.message, end.hint
}

// failure is the ending of an error: 5 before anything was deleted, 1 after.
func (j *job) failure(err error) *ending {
	// Joined errors have a line each, and a message is one.
	end := &ending{outcome: Failed, reason: Internal, exit: ExitFailed, message: strings.ReplaceAll(err.Error(), "\n", "; ")}
	var address *keyspace.BadAddress
	var refusal *keyspace.Error
	var field *FieldError
	switch {
	case errors.As(err, &address):
		return &ending{Refused, Usage, ExitUsage, err.Error(), ""}
	case errors.As(err, &field):
		return &ending{Refused, BadPolicy, ExitPolicy, err.Error(), ""}
	case errors.As(err, &refusal):
		end.reason, end.hint = Reason(refusal.Kind), refusal.Hint
		if !j.deleted() {
			end.exit = ExitNoServer
			switch refusal.Kind {
			case keyspace.Unreachable, keyspace.Loading, keyspace.NotRedis, keyspace.TLS, keyspace.Restarted, keyspace.Other:
			default:
				end.outcome = Refused
			}
		}
	case errors.Is(err, context.Canceled):
		end.reason = Interrupted
	}
	if j.deleted() {
		end.message = fmt.Sprintf("%s; %s", end.message, j.soFar())
	}
	return end
}

// deleted tells whether the run deleted anything, or may have.
func (j *job) deleted() bool {
	if !j.acts() {
		return false
	}
	for _, n := range j.nodes {
		if n.ledger != nil && n.ledger.touched() {
			return true
		}
	}
	return false
}

func (j *job) soFar() string {
	if !j.deleted() {
		return "nothing was deleted"
	}
	var evicted int64
	for _, n := range j.nodes {
		if n.ledger != nil {
			evicted += n.ledger.evicted()
		}
	}
	return fmt.Sprintf("%d keys had been evicted", evicted)
}

// goOn is how to continue a run that ended early: what it has deleted began a cooldown.
func (j *job) goOn() string {
	if !j.deleted() || j.req.IgnoreCooldown || j.req.Policy.Cooldown <= 0 || !j.gated() {
		return "run it again to go on"
	}
	return fmt.Sprintf("to go on run it again when the cooldown of %s is over, or with --ignore-cooldown", ttlpolicy.FormatDuration(j.req.Policy.Cooldown))
}

func (n *nodeJob) finished() *ending {
	switch n.req.Command {
	case Plan:
		return n.plannedEnding()
	case DryRun:
		return n.rehearsedEnding()
	}
	return n.evictedEnding()
}

// plannedEnding speaks of what the sample says that execute would do.
func (n *nodeJob) plannedEnding() *ending {
	var keys, bytes int64
	for _, f := range n.report.Families {
		keys += f.Estimate.Evict
		bytes += f.Estimate.EvictBytes
	}
	return n.wouldEnd(keys, bytes, n.report.Memory.MissingBytes > 0)
}

// rehearsedEnding speaks of what the walk found.
func (n *nodeJob) rehearsedEnding() *ending {
	return n.wouldEnd(n.ledger.evicted(), n.ledger.freed(), n.ledger.stopped() == Exhausted)
}

func (n *nodeJob) wouldEnd(keys, bytes int64, exhausted bool) *ending {
	reason := TargetReached
	if exhausted || n.target() < 0 {
		reason = Exhausted
	}
	if n.ledger != nil && n.ledger.stopped() != "" {
		reason = n.ledger.stopped()
	}
	if keys == 0 {
		return &ending{Nothing, reason, ExitDone, fmt.Sprintf("at level %s execute would evict nothing on %s", n.level, n.node.Addr()), ""}
	}
	exit := ExitDone
	if n.req.DetailedExit {
		exit = ExitToEvict
	}
	about := "about "
	if n.req.Command == DryRun && n.unlimited() {
		about = ""
	}
	return &ending{Planned, reason, exit, fmt.Sprintf("at level %s execute would evict %s%d keys on %s and free about %s (estimate)",
		n.level, about, keys, n.node.Addr(), ttlpolicy.FormatSize(bytes)), n.wouldHint()}
}

func (n *nodeJob) wouldHint() string {
	if n.req.Command == Plan {
		return "dry-run walks every key and counts exactly; execute evicts"
	}
	return "execute evicts; --max-keys N tries it on a few first"
}

func (n *nodeJob) evictedEnding() *ending {
	l := n.ledger
	evicted, reason := l.evicted(), l.stopped()
	freed := fmt.Sprintf("evicted %d keys on %s and freed about %s", evicted, n.node.Addr(), ttlpolicy.FormatSize(l.freed()))
	after := fmt.Sprintf("memory is at %s of %s now", ttlpolicy.FormatSize(n.report.Memory.AfterBytes), ttlpolicy.FormatSize(n.report.Memory.LimitBytes))
	outcome := Evicted
	if evicted == 0 {
		outcome = Nothing
		freed = fmt.Sprintf("evicted nothing on %s", n.node.Addr())
	}
	switch reason {
	case TargetReached:
		if evicted == 0 && n.keptByAllocator() {
			return &ending{Nothing, reason, ExitDone, fmt.Sprintf("what %s could free is free already, and kept by its allocator: nothing to do", n.node.Addr()),
				"see the warning rss_stays; memory.source: redis goes by what Redis uses"}
		}
		if evicted == 0 {
			return &ending{Nothing, reason, ExitDone, fmt.Sprintf("memory of %s is below the target already: nothing to do", n.node.Addr()),
				"--target none evicts all that is eligible, whatever the memory"}
		}
		return &ending{outcome, reason, ExitDone, freed + ": " + after + ", at the target", ""}
	case MaxKeys:
		return &ending{Incomplete, reason, ExitIncomplete, fmt.Sprintf("%s: --max-keys %d is reached, %s", freed, n.req.MaxKeys, after), n.goOn()}
	case MaxBytes:
		return &ending{Incomplete, reason, ExitIncomplete, fmt.Sprintf("%s: --max-bytes %s is reached, %s", freed, ttlpolicy.FormatSize(n.req.MaxBytes), after), n.goOn()}
	}
	threshold := n.req.Policy.Memory.Levels.Of(n.level)
	if n.target() < 0 || n.report.Memory.Ratio < threshold && evicted == 0 || float64(n.report.Memory.AfterBytes) < threshold*float64(n.report.Memory.LimitBytes) {
		return &ending{outcome, Exhausted, ExitDone, fmt.Sprintf("%s, %s: %s", freed, n.allThere(), after), ""}
	}
	return &ending{Incomplete, Exhausted, ExitIncomplete,
		fmt.Sprintf("%s, %s, but %s, still above the %s threshold", freed, n.allThere(), after, n.level),
		"look at what else fills this Redis (plan shows each family; redis-cli --bigkeys the rest), raise the memory, or relax older_than"}
}

// allThere is what a run has taken that went to its end.
func (n *nodeJob) allThere() string {
	if n.plan != nil {
		return "all that the plan lets go"
	}
	return fmt.Sprintf("all that is eligible at level %s", n.level)
}
