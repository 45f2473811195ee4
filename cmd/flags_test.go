package cmd

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"redis-janitor/janitor"
	"redis-janitor/janitor/health"
)

// valued visits every flag that takes a value, with a command line that gives it.
func valued(visit func(args []string, f *pflag.Flag)) {
	everyCommand(newRoot(System{}), func(cmd *cobra.Command) {
		args := strings.Fields(cmd.CommandPath())[1:]
		switch cmd.Name() {
		case "execute":
			args = append(args, "--yes")
		case "explain", "restore":
			args = append(args, "something")
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.NoOptDefVal == "" {
				visit(args, f)
			}
		})
	})
}

func TestAnEmptyValueOfAnyFlagIsWrongUsage(t *testing.T) {
	seen := 0
	valued(func(args []string, f *pflag.Flag) {
		seen++
		for _, form := range [][]string{{"--" + f.Name, ""}, {"--" + f.Name + "="}} {
			want := janitor.ExitUsage
			if args[0] == "check" {
				want = int(health.Unknown)
			}
			got := call(t, nil, t.TempDir(), append(args, form...)...)
			if got.code != want || !strings.Contains(got.out+got.err, "--"+f.Name) {
				t.Errorf("%v %q: exit %d, %s%s", args, form, got.code, got.out, got.err)
			}
		}
	})
	if seen < 100 {
		t.Errorf("only %d flags were found", seen)
	}
}

func TestAnEmptyValueAmongOthersIsWrongUsageToo(t *testing.T) {
	for _, args := range [][]string{
		{"plan", "-u", "redis://127.0.0.1:1/0", "-u", ""},
		{"plan", "-p", ""},
		{"restore", "a.capsule", "--match", "a*", "--match", ""},
		{"restore", ""},
	} {
		if got := call(t, nil, t.TempDir(), args...); got.code != janitor.ExitUsage {
			t.Errorf("%q: exit %d, %s%s", args, got.code, got.out, got.err)
		}
	}
}
