package cmd

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

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

func newRoot(sys System) *cobra.Command {
	root := &cobra.Command{
		Use:   "redis-janitor",
		Short: "Clean a Redis cache under memory pressure, and take nothing else",
		Long: `redis-janitor frees memory in a Redis that is used as a cache: when memory
passes a threshold it evicts just enough of the oldest keys of the families
that its policy names, and nothing else. It never flushes.

Begin with plan, which only reads; then dry-run, which takes every decision
and deletes nothing; then execute.
` + exitCodes,
		Example: `  redis-janitor demo                       # all of it, on an embedded Redis
  redis-janitor plan -u redis://cache.internal:6379/0
  redis-janitor execute --yes --quiet      # cron`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRunE: distinctFiles,
		Version:           version(),
	}
	root.SetVersionTemplate(build())
	root.SetIn(sys.In)
	root.SetOut(sys.Out)
	root.SetErr(sys.Err)
	root.AddCommand(newPlan(sys), newDryRun(sys), newExecute(sys), newRestore(sys), newExplain(sys), newCheck(sys), newDemo(sys), newVersion(sys))
	root.SetFlagErrorFunc(suggestFlag)
	// To the terminal's width; unwrapped where there is none.
	root.SetUsageTemplate(strings.NewReplacer(".FlagUsages ", fmt.Sprintf(".FlagUsagesWrapped %d ", sys.Width),
		"for more information about a command", "for more information").Replace(root.UsageTemplate()))
	completeBuiltins(root, sys)
	completeValues(root, sys)
	return root
}

func newVersion(sys System) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version and build",
		Long: `version prints the version, the commit it was built from, and the Go version
and system it was built for.
` + onlyPrints,
		Example: `  redis-janitor version`,
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(sys.Out, build())
			return sys.written(err)
		},
	}
}

// build says what this program was built from.
func build() string {
	commit := buildCommit
	if info, ok := debug.ReadBuildInfo(); ok && commit == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	return fmt.Sprintf("redis-janitor %s (commit %s, %s, %s/%s)\n", version(), cmp.Or(commit, "unknown"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
