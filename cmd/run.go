package cmd

import (
	"cmp"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"redis-janitor/cmd/planfile"
	"redis-janitor/janitor"
	"redis-janitor/patterns"
)

// runOptions are the flags of plan, dry-run and execute.
type runOptions struct {
	command      janitor.Command
	connection   connectionFlags
	policy       policyFlags
	execute      executeFlags
	output       outputFlags
	metrics      metricsFlag
	plan         planFlags
	detailedExit bool
	pauseFile    string
	keys         []string
}

func newPlan(sys System) *cobra.Command {
	o := &runOptions{command: janitor.Plan}
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Sample the keyspace and say what execute would evict; only reads",
		Long: `plan probes memory and, where it is above a threshold, samples the keyspace:
what execute would evict, how much that should free, and why. It takes the
same time on ten million keys as on one, and sends only commands that read.
` + exitCodes,
		Example: `  redis-janitor plan -u redis://cache.internal:6379/0
  redis-janitor plan --level force      # as if memory were above 75 %
  redis-janitor plan --save plan.json   # to be reviewed (--show plan.json)
  redis-janitor plan -o json | jq '.nodes[].families[] | {name, estimate}'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.plan.show != "" {
				return o.showPlan(cmd, sys)
			}
			return o.run(cmd, sys)
		},
	}
	o.add(cmd)
	o.plan.addPlan(cmd.Flags())
	cmd.Flags().BoolVar(&o.detailedExit, "detailed-exitcode", false, "exit 10 when there is something to evict")
	return cmd
}

func newDryRun(sys System) *cobra.Command {
	o := &runOptions{command: janitor.DryRun}
	cmd := &cobra.Command{
		Use:   "dry-run",
		Short: "Walk the whole keyspace, take every decision, delete nothing",
		Long: `dry-run walks the whole keyspace and takes every decision that execute would
take, with the same code down to the last call. It sends only commands that
read.
` + exitCodes,
		Example: `  redis-janitor dry-run -u redis://cache.internal:6379/0
  redis-janitor dry-run --level critical --target none`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, sys) },
	}
	o.add(cmd)
	o.execute.addWalk(cmd)
	cmd.Flags().BoolVar(&o.detailedExit, "detailed-exitcode", false, "exit 10 when there is something to evict")
	return cmd
}

func newExecute(sys System) *cobra.Command {
	o := &runOptions{command: janitor.Execute}
	cmd := &cobra.Command{
		Use:   "execute",
		Short: "Evict what policy and level allow, until memory is at the target",
		Long: `execute evicts: when memory is above a threshold, the oldest keys of the
policy's families in their order, until memory is at the target. Each key's
TTL is read again in the moment of its deletion, so that one that was
refreshed stays.

It leaves with exit code 0 when there is nothing to do, when many users are
active (unless memory is critical), within two minutes of the last eviction,
and when another janitor is at work.
` + exitCodes,
		Example: `  redis-janitor execute --yes                    # cron
  redis-janitor execute --max-keys 1000 --yes    # try it on a few first
  redis-janitor execute --plan plan.json --yes   # exactly what was reviewed
  # a pre-deploy hook that wants all stale results gone:
  redis-janitor execute --level force --target none --ignore-busy \
    --ignore-cooldown --fail-if-skipped --yes`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, sys) },
	}
	o.add(cmd)
	o.execute.add(cmd)
	o.plan.addExecute(cmd.Flags())
	return cmd
}

func newExplain(sys System) *cobra.Command {
	o := &runOptions{command: janitor.Explain}
	cmd := &cobra.Command{
		Use:   "explain KEY...",
		Short: "Say what each level would do with a key, and why; writes nothing",
		Long: `explain answers "why is my key gone, or still there?": the key's family, TTL,
age, idle time and protection, and what cleanup, force and critical would do
with it, by the same code as execute. It sends only commands that read, and
touches no idle time.

A key is taken byte by byte. One that begins with a double quote is read as
redis-cli prints keys, "\x00caf\xc3\xa9\n"; put it between single quotes, so
that the shell leaves it alone. Keys that begin with a dash come behind --.
` + exitCodes,
		Example: `  redis-janitor explain ml_results:9f2c
  redis-janitor explain '"ml_results:\x00\xff"' 'a key with spaces'
  redis-janitor explain -o json -- -odd:key | jq '.keys[].levels'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("explain needs at least one KEY")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				key, err := patterns.Unquote(arg)
				if err != nil {
					return o.refused(cmd, sys, usageError{err})
				}
				o.keys = append(o.keys, key)
			}
			return o.run(cmd, sys)
		},
	}
	o.add(cmd)
	return cmd
}

func (o *runOptions) add(cmd *cobra.Command) {
	o.connection.add(cmd.Flags())
	o.policy.add(cmd)
	o.output.add(cmd)
	o.metrics.add(cmd.Flags())
	cmd.Flags().StringVar(&o.pauseFile, "pause-file", "", "evict nothing while `FILE` exists (env REDIS_JANITOR_PAUSE_FILE; default "+defaultPauseFile+")")
	cmd.Flags().SortFlags = false
}

// defaultPauseFile is where a restart of the machine leaves it alone: a pause ends when a person ends it.
const defaultPauseFile = "/etc/redis-janitor/pause"

// run turns flags into one call into package janitor, and shows what comes back.
func (o *runOptions) run(cmd *cobra.Command, sys System) error {
	req, err := o.request(cmd, sys)
	if err != nil {
		return o.refused(cmd, sys, usageError{err})
	}
	if o.plan.file != "" {
		req.Saved, req.Policy, req.GivenPolicy, err = o.savedPlan(sys)
	} else {
		req.Policy, err = o.policy.policy(sys)
	}
	if err != nil {
		return o.refused(cmd, sys, err)
	}
	if o.policy.show {
		return o.output.showPolicy(sys, req.Policy)
	}
	meter := o.output.meter(sys, o.command != janitor.Execute)
	log := o.output.logger(meter)
	libraryLog(log)
	env := o.output.env(sys, meter, log)
	env.Save = o.savePlan(req.Policy)
	report := janitor.Run(cmd.Context(), req, env)
	meter.Close()
	o.metrics.writeRun(cmd.Context(), &o.output, sys, report)
	return o.output.show(sys, report)
}

func (o *runOptions) refused(cmd *cobra.Command, sys System, err error) error {
	return refuseRun(cmd, sys, &o.output, &o.metrics, err)
}

// refuseRun says why a run of plan, dry-run, execute, explain or restore was not begun.
func refuseRun(cmd *cobra.Command, sys System, output *outputFlags, metrics *metricsFlag, err error) error {
	code, reason := janitor.ExitPolicy, janitor.BadPolicy
	var usage usageError
	var plan *planfile.Error
	var signal *janitor.Signal
	switch {
	case errors.As(err, &signal): // while a pipe with the password was waited for
		code, reason = signal.Exit, janitor.Interrupted
	case errors.As(err, &usage):
		code, reason, err = janitor.ExitUsage, janitor.Usage, usage.error
	case errors.As(err, &plan):
		reason = janitor.BadPlan
	}
	r := janitor.Refusal(cmd.Name(), version(), sys.Now(), code, reason, err)
	metrics.writeRun(cmd.Context(), output, sys, r)
	return exit{sys.refuse(r, err)}
}

// request is what the command line asks for, but for the policy: what is wrong with a command line is told before any
// file but a password's is opened.
func (o *runOptions) request(cmd *cobra.Command, sys System) (janitor.Request, error) {
	e := &o.execute
	if e.pace == nil { // plan and explain have none of these flags
		e.pace, e.workers, e.nodesAtOnce = &choiceValue{value: "auto"}, 1, janitor.NodesAtOnce
	}
	if err := cmp.Or(e.check(), o.policy.check(cmd), o.plan.check(cmd)); err != nil || o.policy.show {
		return janitor.Request{}, err
	}
	connection, err := o.connection.options(cmd.Context(), sys, e.workers)
	if err != nil {
		return janitor.Request{}, err
	}
	pauseFile := cmp.Or(o.pauseFile, sys.getenv("REDIS_JANITOR_PAUSE_FILE"), defaultPauseFile)
	if err := folder("--pause-file", pauseFile); err != nil {
		return janitor.Request{}, err
	}
	return janitor.Request{
		Command: o.command, Keys: o.keys, Version: version(), Connection: connection,
		Level: o.policy.forcedLevel(), ActiveUsers: o.policy.activeUsers,
		IgnoreBusy: o.policy.ignoreBusy, IgnoreCooldown: o.policy.ignoreCooldown, DetailedExit: o.detailedExit,
		Confirmed: e.yes, MaxKeys: e.maxKeys, MaxBytes: int64(e.maxBytes), Deadline: time.Duration(e.deadline),
		Pace: e.pace.value, MaxRate: e.maxRate, NodesAtOnce: e.nodesAtOnce, Wait: time.Duration(e.wait), Splay: time.Duration(e.splay), FailIfSkipped: e.failIfSkipped,
		MaxPlanAge: time.Duration(o.plan.maxAge), PauseFile: pauseFile, Receipt: e.receipt,
		Capsule: e.capsule.file, CapsuleMax: int64(e.capsule.max), CapsuleMaxValue: int64(e.capsule.maxValue),
	}, nil
}
