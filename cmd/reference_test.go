package cmd

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "rewrite docs/man and docs/cli")

// The generators of man pages are known to this test alone: nobody who runs the program needs them.
func generated(t *testing.T) map[string]func(dir string) error {
	t.Helper()
	root := newRoot(System{Out: io.Discard, Err: io.Discard})
	everyCommand(root, func(cmd *cobra.Command) {
		// Markdown, which man pages are made from as well, would run the lines of a list together.
		cmd.Long = regexp.MustCompile(`(?m)^  (.*\n?)`).ReplaceAllString(strings.ReplaceAll(cmd.Long, ":\n  ", ":\n\n  "), "      $1")
	})
	// A page's date would be the day of its making.
	header := &doc.GenManHeader{Title: "REDIS-JANITOR", Section: "1", Source: "redis-janitor", Manual: "User Commands", Date: &time.Time{}}
	return map[string]func(dir string) error{
		"cli": func(dir string) error { return doc.GenMarkdownTree(root, dir) },
		"man": func(dir string) error {
			if err := doc.GenManTree(root, header, dir); err != nil {
				return err
			}
			return eachFile(dir, func(file string, text []byte) error {
				return os.WriteFile(file, []byte(strings.Replace(string(text), `"Jan 0001" `, `"" `, 1)), 0o600)
			})
		},
	}
}

func eachFile(dir string, do func(file string, text []byte) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			err = do(filepath.Join(dir, e.Name()), text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func TestManPagesAndCommandPagesAreCurrent(t *testing.T) {
	for name, generate := range generated(t) {
		kept, fresh := filepath.Join("..", "docs", name), t.TempDir()
		if *update {
			if err := os.RemoveAll(kept); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(kept, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := generate(fresh); err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		if err := eachFile(fresh, func(file string, text []byte) error {
			// One end of line at the end, and none with spaces before it.
			clean := strings.TrimRight(regexp.MustCompile(`(?m)[ \t]+$`).ReplaceAllString(string(text), ""), "\n") + "\n"
			found[filepath.Base(file)] = clean
			if *update {
				return os.WriteFile(filepath.Join(kept, filepath.Base(file)), []byte(clean), 0o644)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := eachFile(kept, func(file string, text []byte) error {
			if found[filepath.Base(file)] != string(text) {
				t.Errorf("%s is not current: run make docs", file)
			}
			delete(found, filepath.Base(file))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for file := range found {
			t.Errorf("docs/%s/%s is missing: run make docs", name, file)
		}
	}
}

// everyCommand visits all that a person can call.
func everyCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		everyCommand(sub, visit)
	}
}

func TestEveryCommandsHelpHasExamplesAndExitCodes(t *testing.T) {
	seen := 0
	everyCommand(newRoot(System{}), func(cmd *cobra.Command) {
		seen++
		if !strings.Contains(cmd.Example, "redis-janitor "+strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "redis-janitor"), " ")) {
			t.Errorf("%s has no example of its own: %q", cmd.CommandPath(), cmd.Example)
		}
		if !strings.Contains(cmd.Long, "\nExit codes:\n  0 ") {
			t.Errorf("%s does not say what it exits with", cmd.CommandPath())
		}
	})
	if seen < 12 {
		t.Errorf("only %d commands were found", seen)
	}
}

func TestEveryFlagsValueIsCompleted(t *testing.T) {
	everyCommand(newRoot(System{}), func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			complete, there := cmd.GetFlagCompletionFunc(f.Name)
			if f.NoOptDefVal != "" {
				return
			}
			if !there {
				t.Errorf("%s --%s: the shell would offer files", cmd.CommandPath(), f.Name)
				return
			}
			offered, directive := complete(cmd, nil, "")
			kind, _ := pflag.UnquoteUsage(f)
			if isFile := kind == "FILE"; isFile == (directive&cobra.ShellCompDirectiveNoFileComp != 0) {
				t.Errorf("%s --%s takes %s, and is offered %q (%d)", cmd.CommandPath(), f.Name, kind, offered, directive)
			}
			if choices, ok := f.Value.(*choiceValue); ok && !slices.Equal(offered, choices.choices) {
				t.Errorf("%s --%s is offered %q", cmd.CommandPath(), f.Name, offered)
			}
		})
	})
}
