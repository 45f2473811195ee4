package cmd

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"redis-janitor/cmd/policyfile"
)

const exitCodes = `
Exit codes:
  0    done; also nothing to do, paused, busy, cooling down, or another
       janitor at work
  1    failed part-way: some keys were already deleted
  3    incomplete: a limit, the deadline, or memory still above the threshold
  4    refused by a guard, nothing deleted
  5    Redis is unreachable, loading, or refuses; nothing deleted
  10   plan, dry-run with --detailed-exitcode: there is something to evict
  64   wrong usage      78  wrong policy or configuration
  129  SIGHUP   130 SIGINT   143 SIGTERM (the batch in hand was finished)`

// onlyPrints is what a command exits with that has nothing to do with any Redis.
const onlyPrints = `
Exit codes:
  0    done
  1    failed; version, completion, help: the output could not be written
  64   wrong usage`

// suggestFlag adds to an unknown flag the known one that was most likely meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return plainly(err)
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	if near, ok := policyfile.Nearest(name, known); ok {
		return fmt.Errorf("%w; did you mean --%s?", err, near)
	}
	return err
}

// goNumber is what Go says of text that it cannot read as a number.
var goNumber = regexp.MustCompile(`strconv\.Parse(Int|Uint|Float): parsing .*: (invalid syntax|value out of range)$`)

// plainly says of a flag's number what is wrong with it.
func plainly(err error) error {
	found := goNumber.FindStringSubmatch(err.Error())
	if found == nil {
		return err
	}
	wrong := "not a whole number"
	switch {
	case found[2] == "value out of range":
		wrong = "too large a number"
	case found[1] == "Float":
		wrong = "not a number"
	}
	return errors.New(strings.TrimSuffix(err.Error(), found[0]) + wrong)
}

// completeValues has the shell offer files where a file is wanted, words where there are some, and nothing
// elsewhere: left alone it offers files for everything.
func completeValues(cmd *cobra.Command, sys System) {
	for _, sub := range cmd.Commands() {
		completeValues(sub, sys)
	}
	if cmd.ValidArgs == nil && cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	words := map[string][]string{"memory-limit": {"maxmemory", "system"}, "target": {"none", "55%"}}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		_, done := cmd.GetFlagCompletionFunc(f.Name)
		kind, _ := pflag.UnquoteUsage(f)
		switch {
		case done, f.NoOptDefVal != "": // a switch takes no value
		case kind == "FILE":
			ending := ""
			if f.Name == "policy" {
				ending = "yaml"
			}
			_ = cmd.RegisterFlagCompletionFunc(f.Name, files(ending)) // an error only for a flag that does not exist
		case f.Name == "family":
			_ = cmd.RegisterFlagCompletionFunc(f.Name, sys.familyNames) // likewise
		default:
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words[f.Name], cobra.ShellCompDirectiveNoFileComp)) // likewise
		}
	})
}

// familyNames completes with the families of the policy in force; with nothing where that is wrong.
func (sys System) familyNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if policy, err := sys.policyIn(""); err == nil {
		for _, f := range policy.Families {
			names = append(names, f.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// files completes with files, those with an ending where one is given.
func files(ending string) cobra.CompletionFunc {
	if ending == "" {
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	}
	return cobra.FixedCompletions([]string{ending, "yml"}, cobra.ShellCompDirectiveFilterFileExt)
}

// narrow breaks those of cobra's own lines that are too wide for a terminal: prose at a space, a command before where
// its output goes.
func narrow(text string) string {
	const width = 78
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if command, into, redirected := strings.Cut(line, " > "); redirected && len(line) > width-7 { // its tab takes 8
			lines = append(lines, command+" \\", "\t  > "+into)
			continue
		}
		for len(line) > width {
			at := strings.LastIndexByte(line[:width], ' ')
			if at <= 0 {
				break
			}
			lines, line = append(lines, line[:at]), line[at+1:]
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// completeBuiltins has the commands that cobra brings along end as all others do: it takes an unknown
// shell or topic for a call for help, and a script that could not be written for wrong usage.
func completeBuiltins(root *cobra.Command, sys System) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Long += onlyPrints
			cmd.Example = "  redis-janitor help execute"
			cmd.Args = func(_ *cobra.Command, topic []string) error {
				_, rest, err := root.Find(topic)
				if err == nil && len(rest) > 0 {
					err = fmt.Errorf("unknown help topic %q", rest)
				}
				return err
			}
		case "completion":
			cmd.Long += onlyPrints
			cmd.Example = "  source <(redis-janitor completion bash)"
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range cmd.Commands() {
				write := shell.RunE
				shell.Long = narrow(shell.Long) + onlyPrints
				shell.Example = "  redis-janitor completion " + shell.Name()
				shell.RunE = func(cmd *cobra.Command, args []string) error { return sys.written(write(cmd, args)) }
			}
		}
	}
}
