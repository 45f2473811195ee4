package view

import "redis-janitor/janitor"

// reasonAdvice is what to do next where the janitor itself ended a run and left no hint. What a
// server answers comes with its hint.
var reasonAdvice = map[janitor.Reason]string{
	janitor.TargetReached: "Nothing: the next run acts when memory has passed the cleanup threshold again. check tells how the hit rate fares meanwhile.",
	janitor.Busy: "Nothing was deleted: people are at work, and while they are only the critical level would act. The next run looks again; " +
		"--ignore-busy acts now.",
	janitor.Cooldown: "Nothing was deleted: an eviction has just been here, and so soon after it only the critical level would act. The next run " +
		"looks again; --ignore-cooldown acts now.",
	janitor.LeaseHeld: "Nothing was deleted: another janitor is at work on this Redis. Leave it to that one, or wait for it with --wait 5m.",
	janitor.LeaseLost: "Another janitor may have taken over, so this one stopped. Look at its report, then run again if memory is still high.",
	janitor.Paused:    "Nothing was deleted: the pause is meant for the whole fleet. Whoever set it removes the key redis-janitor:pause, or this host's pause file.",
	janitor.Exhausted: "All that the policy lets go at this level is gone. If memory is still too high, look for what no family matches, or lower an " +
		"older_than age; plan shows what that would free.",
	janitor.MaxKeys:     "The run stopped at --max-keys, oldest first. Look at what it did, then run again to go on.",
	janitor.MaxBytes:    "The run stopped at --max-bytes, oldest first. Look at what it did, then run again to go on.",
	janitor.Deadline:    "The run stopped at its deadline, oldest first. Run again to go on, with a longer --deadline or a faster --pace.",
	janitor.Interrupted: "The batch in hand was finished. Run again to go on.",
	janitor.Guard:       "Nothing was deleted. Do what the message asks for, and run again.",
	janitor.Drift:       "Nothing was deleted. Make a new plan with plan --save FILE, look at it, and execute that one.",
	janitor.Replica:     "Nothing was deleted. Point --url at the primary.",
	janitor.NodeDown:    "The other nodes are done. Run again when the node is back.",
	janitor.Usage:       "See redis-janitor help for the commands and their flags.",
	janitor.BadPolicy:   "Nothing was deleted. Mend the policy at the place named; --policy-show prints the one in force.",
}

// advice lists what to do next: the run's own hint or what its reason suggests, and what an
// unreachable target calls for.
func advice(r *janitor.Report) []string {
	var steps []string
	switch {
	case r.Hint != "":
		steps = append(steps, r.Hint)
	case reasonAdvice[r.Reason] != "":
		steps = append(steps, reasonAdvice[r.Reason])
	}
	if r.Capsule != nil && r.Totals.Evicted > 0 {
		steps = append(steps, "To undo it: set the key redis-janitor:pause, so that no run takes them again, then redis-janitor restore "+r.Capsule.File+".")
	}
	if r.Reason != janitor.Exhausted && warned(r, "target_unreachable", "") {
		steps = append(steps, "The target cannot be reached with this policy at this level: look for what no family matches, lower an older_than age, "+
			"or raise the target or the limit.")
	}
	return steps
}
