package cmd

import (
	"github.com/spf13/cobra"

	"redis-janitor/janitor"
	"redis-janitor/janitor/keyspace"
)

// restoreOptions are the flags of restore.
type restoreOptions struct {
	connection connectionFlags
	policy     policyFlags
	output     outputFlags
	metrics    metricsFlag
	ask        janitor.RestoreRequest
}

func newRestore(sys System) *cobra.Command {
	o := &restoreOptions{}
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put back what an execute with --capsule took",
		Long: `restore puts keys back from the FILE that execute --capsule wrote: each with
its value and until its original expiry time, never over a key that exists
now. What would have expired by now it leaves out (--full-ttl: not). It ends
with exit code 3 where the file is damaged or has no end, and restores what is
whole.

Hold execute back first, with the key redis-janitor:pause: while memory is
above a threshold, the next one takes the same keys again. Where that is so,
or comes to be so by what is put back, restore warns before it writes.

Exit codes:
  0    done; also nothing left to restore
  1    failed part-way: some keys are back
  3    incomplete: the file is damaged or has no end, or some values are unfit
  4    refused by a guard, nothing written
  5    Redis is unreachable, out of memory, too old or refuses; nothing
       written
  64   wrong usage      78  wrong policy
  129  SIGHUP   130 SIGINT   143 SIGTERM (the batch in hand was finished)`,
		Example: `  redis-janitor restore last.capsule --dry-run    # what would come back
  redis-janitor restore last.capsule --family sessions
  redis-janitor restore last.capsule --match 'page:front*' --full-ttl --yes`,
		Args:              oneFile,
		ValidArgsFunction: files(""),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, sys, args[0]) },
	}
	flags := cmd.Flags()
	o.connection.add(flags)
	o.policy.addMemory(cmd)
	flags.BoolVar(&o.ask.Confirmed, "yes", false, "do not ask; needed where stdin is no terminal")
	flags.BoolVar(&o.ask.DryRun, "dry-run", false, "say what would come back, and write nothing")
	flags.BoolVar(&o.ask.Replace, "replace", false, "also over keys that exist now")
	flags.BoolVar(&o.ask.FullTTL, "full-ttl", false, "give each key the TTL it had left when it was taken, from now on")
	flags.BoolVar(&o.ask.AnyDB, "any-db", false, "also into another database than the keys were in")
	flags.StringArrayVar(&o.ask.Families, "family", nil, "only keys of the family of this `NAME`; repeatable")
	flags.StringArrayVar(&o.ask.Match, "match", nil, "only keys that this `GLOB` matches, as Redis matches; repeatable")
	receiptFlag(flags, &o.ask.Receipt)
	o.output.add(cmd)
	o.metrics.add(flags)
	flags.SortFlags = false
	return cmd
}

func (o *restoreOptions) run(cmd *cobra.Command, sys System, file string) error {
	refused := func(err error) error { return refuseRun(cmd, sys, &o.output, &o.metrics, err) }
	err := o.policy.check(cmd)
	var connection keyspace.Options
	if err == nil && !o.policy.show {
		connection, err = o.connection.options(cmd.Context(), sys, 1)
	}
	if err != nil {
		return refused(usageError{err})
	}
	if o.ask.Policy, err = o.policy.policy(sys); err != nil {
		return refused(err)
	}
	if o.policy.show {
		return o.output.showPolicy(sys, o.ask.Policy)
	}
	o.ask.Version, o.ask.File, o.ask.Connection = version(), file, connection
	meter := o.output.meter(sys, o.ask.DryRun)
	log := o.output.logger(meter)
	libraryLog(log)
	report := janitor.PutBack(cmd.Context(), o.ask, o.output.env(sys, meter, log))
	meter.Close()
	o.metrics.writeRun(cmd.Context(), &o.output, sys, report)
	return o.output.show(sys, report)
}
