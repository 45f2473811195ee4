package cmd

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"redis-janitor/cmd/view"
	"redis-janitor/janitor"
	"redis-janitor/janitor/demo"
)

// demoSeed fixes what the embedded Redis is filled with, so that everybody sees the same story.
const demoSeed = 1

func newDemo(sys System) *cobra.Command {
	o := &runOptions{output: outputFlags{logFormat: &choiceValue{value: "text"}}}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole story on an embedded Redis; needs nothing installed",
		Long: `demo starts an embedded Redis (miniredis) inside its own process, shaped like
a t3.large at 1/1000 and filled with a chatbot backend's keys. It takes it
over the three thresholds, shows plan, dry-run and execute at work, and looks
at the end at every key. No other Redis is touched.

Exit codes:
  0    done
  1    failed, or the output could not be written
  64   wrong usage
  129  SIGHUP   130 SIGINT   143 SIGTERM`,
		Example: `  redis-janitor demo
  redis-janitor demo --verbose | less`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := o.output.logger(sys.Err)
			libraryLog(log)
			human := view.Human(o.output.view(sys, sys.Out, sys.OutTerminal))
			err := demo.Run(cmd.Context(), demo.Options{
				Env: o.output.env(sys, nil, log), Seed: demoSeed, Version: version(),
				Say: human.Paragraph,
				Show: func(title, explanation string, r *janitor.Report) error {
					if err := human.Heading(title, explanation); err != nil || r == nil {
						return err
					}
					if _, err := fmt.Fprintln(sys.Out); err != nil {
						return err
					}
					return human.Report(r)
				},
			})
			var signal *janitor.Signal
			switch {
			case err == nil:
				return nil
			case errors.As(err, &signal):
				return exit{signal.Exit}
			}
			fmt.Fprintf(sys.Err, "redis-janitor demo: %v\n", err)
			return exit{janitor.ExitFailed}
		},
	}
	o.output.color = choice(cmd, "color", "", "auto", "when to use colours (NO_COLOR is honoured)", "auto", "always", "never")
	cmd.Flags().BoolVarP(&o.output.verbose, "verbose", "v", false, "print details")
	return cmd
}
