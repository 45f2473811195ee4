package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// noArguments is for commands that are told everything by flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no arguments, and %q is one: what it needs is told by flags", cmd.CommandPath(), args[0])
	}
	return nil
}

// oneFile is for restore.
func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return fmt.Errorf("%s needs one FILE, that execute --capsule has written, and was given %d", cmd.CommandPath(), len(args))
	}
	return nil
}

// The flags that name files, by what becomes of these.
var (
	writtenFiles = []string{"capsule", "receipt", "save", "metrics-file", "state"}
	readFiles    = []string{"policy", "plan", "show", "password-file", "cacert", "cert", "key", "worker-log", "pause-file"}
)

// distinctFiles refuses a command line on which what is written has the name of another file: the last to be
// written would take the place of a capsule with values that are nowhere else.
func distinctFiles(cmd *cobra.Command, args []string) error {
	if err := emptyValue(cmd); err != nil {
		return err
	}
	type named struct{ flag, file string }
	given := func(names []string) (files []named) {
		for _, name := range names {
			if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
				files = append(files, named{"--" + name, flag.Value.String()})
			}
		}
		return files
	}
	written, read := given(writtenFiles), given(readFiles)
	if cmd.Name() == "restore" && len(args) == 1 {
		read = append(read, named{"FILE", args[0]})
	}
	for i, a := range written {
		for _, b := range slices.Concat(written[i+1:], read) {
			if sameFile(a.file, b.file) {
				return fmt.Errorf("%s and %s name the same file, %s, and one would overwrite the other: give two names", b.flag, a.flag, a.file)
			}
		}
	}
	return nil
}

// emptyValue is a flag that is given without a value, as --plan "$PLAN" is in a script in which PLAN is not set.
// What it would do without that flag, such as an execute that nobody has reviewed, is not what was asked for.
func emptyValue(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		var values []string
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		} else if f.Value.Type() == "string" { // the other types refuse it themselves
			values = []string{f.Value.String()}
		}
		if err == nil && slices.Contains(values, "") {
			err = fmt.Errorf("--%s is given an empty value: give it one, or leave the flag out", f.Name)
		}
	})
	return err
}

// sameFile compares what is there, and by name what isn't yet.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB) && infoA.Mode().IsRegular()
	}
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	return errA == nil && errB == nil && absA == absB
}

// longestPassword is far above what any server takes.
const longestPassword = 64 << 10

// readPassword reads a password's file. It may be a pipe that somebody has yet to write to, so that reading
// it ends with ctx.
func readPassword(ctx context.Context, name string) (string, error) {
	type content struct {
		text []byte
		err  error
	}
	read := make(chan content, 1)
	go func() {
		in, err := os.Open(name)
		if err != nil {
			read <- content{nil, err}
			return
		}
		text, err := io.ReadAll(io.LimitReader(in, longestPassword+1))
		read <- content{text, errors.Join(err, in.Close())}
	}()
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("read %s: %w", name, context.Cause(ctx))
	case c := <-read:
		if c.err == nil && len(c.text) > longestPassword {
			c.err = fmt.Errorf("%s is larger than %d bytes, which no password is", name, longestPassword)
		}
		password := strings.TrimRight(string(c.text), "\r\n")
		if c.err == nil && password == "" {
			c.err = fmt.Errorf("%s is empty", name)
		}
		return password, c.err
	}
}

// folder refuses the name of a folder: it exists forever.
func folder(flag, name string) error {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return fmt.Errorf("%s: %s is a folder; name a file", flag, name)
	}
	return nil
}
