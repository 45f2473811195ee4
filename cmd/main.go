// Package cmd is the command line: flags become options, options become one call into package
// janitor, and what comes back is shown by a view.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"redis-janitor/cmd/view"
	"redis-janitor/janitor"
	"redis-janitor/janitor/health"
)

// System is everything outside of the process that a command may touch. Tests bring their own.
type System struct {
	Args        []string // without the program's name
	In          io.Reader
	Out, Err    io.Writer
	Environ     []string
	InTerminal  bool
	OutTerminal bool
	ErrTerminal bool
	Width       int // of the terminal in columns; 0: unknown
	Now         func() time.Time
	Root        fs.FS  // the file system's root, for /proc and /sys
	LockDir     string // where this host's locks live
	Hostname    string
	PID         int
}

// Main runs the process's own command line and returns its exit code.
func Main() int {
	ctx, stop := signals(context.Background())
	defer stop()
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unknown-host" // it only names the lease's holder to others
	}
	width, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		width = 0 // no terminal
	}
	return Run(ctx, System{
		Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ(),
		InTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		OutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		ErrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
		Width:       width, Now: time.Now, Root: os.DirFS("/"), LockDir: os.TempDir(), Hostname: hostname, PID: os.Getpid(),
	})
}

// signals cancels a context at the first SIGINT, SIGTERM or SIGHUP, so that the batch in hand is finished;
// a second SIGINT or SIGTERM ends the process at once.
func signals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(caught, syscall.SIGHUP)
	}
	// A reader that went away must not end a run half-way: writing to it is an error like any other.
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		s, ok := <-caught
		if !ok {
			return
		}
		// The kernel and the shell each send one when a terminal goes away, and neither is somebody who insists.
		signal.Ignore(syscall.SIGHUP)
		signal.Stop(caught)
		switch s {
		case syscall.SIGTERM:
			cancel(&janitor.Signal{Name: "SIGTERM", Exit: janitor.ExitTerminate})
		case syscall.SIGHUP:
			cancel(&janitor.Signal{Name: "SIGHUP", Exit: janitor.ExitHangUp})
		default:
			cancel(&janitor.Signal{Name: "SIGINT", Exit: janitor.ExitInterrupt})
		}
	}()
	return ctx, func() {
		signal.Stop(caught)
		close(caught)
		cancel(nil)
	}
}

// exit is how a command ends once it has said all it has to say.
type exit struct{ code int }

func (e exit) Error() string { return "exit status " + strconv.Itoa(e.code) }

// Run runs one command line and returns its exit code.
func Run(ctx context.Context, sys System) int {
	out := &heedful{Writer: sys.Out}
	sys.Out = out
	root := newRoot(sys)
	root.SetArgs(sys.Args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = sys.written(out.err) // cobra's help does not look
	}
	if err != nil && out.err != nil && calledCommand(root, sys.Args) == "check" {
		return int(health.Unknown)
	}
	var ended exit
	switch {
	case err == nil:
		return janitor.ExitDone
	case errors.As(err, &ended):
		return ended.code
	}
	// Whatever else cobra returns it found before a command began: wrong usage.
	called := calledCommand(root, sys.Args)
	if called == "check" {
		return sys.refuseCheck(err)
	}
	return sys.refuse(janitor.Refusal(called, version(), sys.Now(), janitor.ExitUsage, janitor.Usage, err), err)
}

// heedful remembers that something could not be written.
type heedful struct {
	io.Writer
	err error
}

func (h *heedful) Write(p []byte) (int, error) {
	n, err := h.Writer.Write(p)
	if err != nil {
		h.err = err
	}
	return n, err
}

// calledCommand is the name of the command that the arguments ask for, as far as they do.
func calledCommand(root *cobra.Command, args []string) string {
	found, _, err := root.Find(args)
	if err != nil || found == root {
		return "redis-janitor"
	}
	return strings.Fields(found.CommandPath())[1] // completion, and not bash
}

// refuse says why a command line or a policy cannot be carried out, as -o json wants it or in words.
func (sys System) refuse(r *janitor.Report, err error) int {
	if wantsJSON(sys.Args) {
		if writeErr := sys.writeJSON(r); writeErr != nil {
			fmt.Fprintf(sys.Err, "redis-janitor: %v\n", writeErr)
		}
	}
	fmt.Fprintf(sys.Err, "%s: %s\n", strings.TrimSpace("redis-janitor "+strings.TrimPrefix(r.Command, "redis-janitor")), view.Lines(err.Error()))
	if r.ExitCode == janitor.ExitUsage {
		fmt.Fprintln(sys.Err, "Run 'redis-janitor help' or add --help to the command for its flags.")
	}
	return r.ExitCode
}

// outputFlag is --output or -o, alone or behind short flags that take no value, with its value or without.
var outputFlag = regexp.MustCompile(`^(?:--output(?:=(.*))?|-[hqv]*o(?:=?(.+))?)$`)

// wantsJSON looks for -o json itself, because it must be honoured also where the flags can't be parsed.
func wantsJSON(args []string) bool {
	value := ""
	for i, arg := range args {
		if arg == "--" {
			break
		}
		found := outputFlag.FindStringSubmatch(arg)
		switch {
		case found == nil:
		case found[1]+found[2] != "":
			value = found[1] + found[2]
		case i+1 < len(args):
			value = args[i+1]
		}
	}
	return value == "json"
}

func (sys System) getenv(name string) string {
	for _, entry := range sys.Environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
