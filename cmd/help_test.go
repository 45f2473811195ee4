package cmd

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// columns is how wide a line is on a terminal.
func columns(line string) int {
	return utf8.RuneCountInString(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", strings.Repeat(" ", 8)))
}

func TestHelpFitsIntoATerminal(t *testing.T) {
	everyCommand(newRoot(System{}), func(cmd *cobra.Command) {
		var out bytes.Buffer
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		if code := Run(t.Context(), System{Args: args, Out: &out, Err: &out, Width: 80}); code != 0 {
			t.Errorf("%v: exit %d", args, code)
		}
		for line := range strings.Lines(out.String()) {
			if n := columns(line); n > 80 {
				t.Errorf("%v: %d columns: %s", args, n, line)
			}
		}
		for _, text := range []string{cmd.Long, cmd.Example, cmd.Short} {
			for line := range strings.Lines(text) {
				if n := columns(line); n > 78 {
					t.Errorf("%v: %d columns in a text of its own: %s", args, n, line)
				}
			}
		}
	})
}
