package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"redis-janitor/cmd/metricsfile"
	"redis-janitor/cmd/view"
	"redis-janitor/janitor"
	"redis-janitor/janitor/health"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/probe"
)

// checkOptions are the flags of check.
type checkOptions struct {
	connection connectionFlags
	policy     policyFlags
	output     outputFlags
	metrics    metricsFlag
	workerLog  string
	state      string
	// permissions is the command whose permissions are asked about, in the place of the thresholds.
	permissions *choiceValue
}

func newCheck(sys System) *cobra.Command {
	o := &checkOptions{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Memory, hit rate, errors and restarts, for a monitor",
		Long: `check compares what Redis says of itself with the policy's alert thresholds:
memory and where it is heading, hit rate, keys that Redis evicted or that
expired, rejected connections, errors, latency, restarts; with --worker-log
also how many workers gunicorn has booted. It prints one line with performance
data, as Nagios, Icinga, Zabbix or Sensu read it. It sends only commands that
read.

Rates are those since the last check, whose figures a small file keeps
(--state).

Exit codes:
  0  OK
  1  WARNING: memory above alerts.memory_warning, hit rate below
     alerts.hit_rate_below, connections rejected, Redis restarted within the
     hour, more worker restarts than alerts.worker_restarts_per_hour
  2  CRITICAL: memory above alerts.memory_critical
  3  UNKNOWN: unreachable, refused, wrong usage or policy, a worker log that
     can't be read`,
		Example: `  redis-janitor check -u redis://cache.internal:6379/0
  redis-janitor check --worker-log /var/log/combot/server.log
  redis-janitor check -o json | jq '.nodes[].memory.thresholds'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, sys) },
	}
	flags := cmd.Flags()
	o.connection.add(flags)
	o.policy.add(cmd)
	o.output.add(cmd)
	o.metrics.add(flags)
	flags.StringVar(&o.workerLog, "worker-log", "", "gunicorn's error log `FILE`, to count worker restarts in; rotated ones beside it are found")
	flags.StringVar(&o.state, "state", "", "history `FILE` (default: redis-janitor/check.json in the user's cache folder)")
	o.permissions = choice(cmd, "permissions", "", "", "ask which rules of docs/acl.md the Redis user lacks for this command", "plan", "execute")
	flags.SortFlags = false
	return cmd
}

func (o *checkOptions) run(cmd *cobra.Command, sys System) error {
	err := o.policy.check(cmd)
	var connection keyspace.Options
	if err == nil && !o.policy.show {
		connection, err = o.connection.options(cmd.Context(), sys, 1)
	}
	if err != nil {
		return o.refused(cmd.Context(), sys, usageError{err})
	}
	policy, err := o.policy.policy(sys)
	if err != nil {
		return o.refused(cmd.Context(), sys, err)
	}
	if o.policy.show {
		return o.output.showPolicy(sys, policy)
	}
	libraryLog(o.output.logger(sys.Err))
	req := health.Request{Version: version(), Policy: policy, Connection: connection, WorkerLog: o.workerLog, StateFile: o.stateFile(sys)}
	env := health.Env{Now: sys.Now, Machine: probe.ThisMachine{Root: sys.Root}}
	if o.permissions.value != "" {
		return o.report(cmd.Context(), sys, health.Permissions(cmd.Context(), req, janitor.Command(o.permissions.value), env))
	}
	report := health.Check(cmd.Context(), req, env)
	return o.report(cmd.Context(), sys, report)
}

// stateFile is where the history is kept: where the user's caches are, since losing it costs little.
// A service's user often has a home that does not exist, which is not for a check to make.
func (o *checkOptions) stateFile(sys System) string {
	cache := sys.getenv("XDG_CACHE_HOME")
	if home, err := os.Stat(sys.getenv("HOME")); cache == "" && err == nil && home.IsDir() {
		cache = filepath.Join(sys.getenv("HOME"), ".cache")
	}
	switch {
	case o.state != "":
		return o.state
	case cache != "":
		return filepath.Join(cache, "redis-janitor", "check.json")
	}
	return ""
}

func (o *checkOptions) refused(ctx context.Context, sys System, err error) error {
	var usage usageError
	if errors.As(err, &usage) {
		return o.report(ctx, sys, health.Refusal(version(), sys.Now(), janitor.Usage, usage.error))
	}
	return o.report(ctx, sys, health.Refusal(version(), sys.Now(), janitor.BadPolicy, err))
}

// report writes metrics, warns and prints.
func (o *checkOptions) report(ctx context.Context, sys System, r *health.Report) error {
	log := o.output.logger(sys.Err)
	if !o.output.quiet {
		for _, w := range r.Warnings {
			if w.Code != "no_history" { // every first check; the line says it
				log.Warn(w.Message, "code", w.Code)
			}
		}
	}
	o.metrics.write(ctx, &r.Warnings, log, sys.Now(), func(ctx context.Context, file string, now time.Time) (string, error) {
		return metricsfile.Check(ctx, file, r, now)
	})
	if code := sys.showCheck(r, o.output.json(), view.Options{Out: sys.Out, Quiet: o.output.quiet, Verbose: o.output.verbose}); code != int(health.OK) {
		return exit{code}
	}
	return nil
}

// showCheck prints a check and returns its exit code. One that nobody got to read is unknown.
func (sys System) showCheck(r *health.Report, asJSON bool, o view.Options) int {
	show := func() error { return view.Check(o, r) }
	if asJSON {
		show = func() error { return view.JSON(o.Out, r) }
	}
	if err := show(); err != nil {
		fmt.Fprintf(sys.Err, "redis-janitor check: the result could not be written: %v\n", err)
		return int(health.Unknown)
	}
	return r.ExitCode
}

// refuseCheck is how a check ends whose command line was wrong: a monitor wants to hear UNKNOWN, on stdout.
func (sys System) refuseCheck(err error) int {
	r := health.Refusal(version(), sys.Now(), janitor.Usage, err)
	return sys.showCheck(r, wantsJSON(sys.Args), view.Options{Out: sys.Out})
}
