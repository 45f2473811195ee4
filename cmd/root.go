package cmd

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildVersion and buildCommit are set by the linker (see the Makefile) and by nothing else.
var (
	buildVersion = ""
	buildCommit  = ""
)

func version() string {
	if buildVersion != "" {
		return buildVersion
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

const exitCodes = `
Exit codes:
  0    done; also nothing to do, busy, cooling down, another janitor at work
  1    failed part-way: some keys were already deleted
  3    incomplete: a limit, the deadline, or memory still above the threshold
  4    refused by a guard, nothing deleted
  5    Redis is unreachable, loading, or refuses; nothing deleted
  10   plan, dry-run with --detailed-exitcode: there is something to evict
  64   wrong usage      78  wrong policy or configuration
  130  SIGINT           143 SIGTERM (the batch in hand was finished)`

func newRoot(sys System) *cobra.Command {
	root := &cobra.Command{
		Use:   "redis-janitor",
		Short: "Clean a Redis cache under memory pressure, and take nothing else",
		Long: `redis-janitor frees memory in a Redis that is used as a cache: when memory passes a
threshold it evicts just enough of the oldest keys of the families that its policy
names, and nothing else. It never flushes.

Begin with plan, which only reads; then dry-run, which takes every decision and
deletes nothing; then execute.
` + exitCodes,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
	}
	root.SetIn(sys.In)
	root.SetOut(sys.Out)
	root.SetErr(sys.Err)
	root.AddCommand(newPlan(sys), newDryRun(sys), newExecute(sys), newExplain(sys), newCheck(sys), newDemo(sys), newVersion(sys))
	completeBuiltins(root, sys)
	return root
}

// completeBuiltins has the commands that cobra brings along end as all others do: it takes an unknown
// shell or topic for a call for help, and a script that could not be written for wrong usage.
func completeBuiltins(root *cobra.Command, sys System) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, topic []string) error {
				_, rest, err := root.Find(topic)
				if err == nil && len(rest) > 0 {
					err = fmt.Errorf("unknown help topic %q", rest)
				}
				return err
			}
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range cmd.Commands() {
				write := shell.RunE
				shell.RunE = func(cmd *cobra.Command, args []string) error { return sys.written(write(cmd, args)) }
			}
		}
	}
}

func newVersion(sys System) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version and build",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			commit := buildCommit
			if info, ok := debug.ReadBuildInfo(); ok && commit == "" {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						commit = s.Value
					}
				}
			}
			if commit == "" {
				commit = "unknown"
			}
			_, err := fmt.Fprintf(sys.Out, "redis-janitor %s (commit %s, %s, %s/%s)\n", version(), commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return sys.written(err)
		},
	}
}
