package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"redis-janitor/cmd/policyfile"
	"redis-janitor/cmd/view"
	"redis-janitor/janitor"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/probe"
)

// outputFlags say how results are shown.
type outputFlags struct {
	output     *choiceValue
	color      *choiceValue
	noProgress bool
	quiet      bool
	verbose    bool
	logFormat  *choiceValue
}

func (f *outputFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.output = choice(cmd, "output", "o", "text", "how to print the result", "text", "json")
	f.color = choice(cmd, "color", "", "auto", "when to use colours (NO_COLOR is honoured)", "auto", "always", "never")
	flags.BoolVar(&f.noProgress, "no-progress", false, "show no progress on stderr")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing on success, one line otherwise")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "print details, and what is being done on stderr")
	f.logFormat = choice(cmd, "log-format", "", "text", "form of the log lines on stderr", "text", "json")
}

func (f *outputFlags) json() bool { return f.output.value == "json" }

// view is how a report is shown to a person on a stream.
func (f *outputFlags) view(sys System, out io.Writer, terminal bool) view.Options {
	o := view.Options{Out: out, Width: sys.Width, Environ: sys.Environ, Quiet: f.quiet, Verbose: f.verbose, Dark: dark(sys.getenv("COLORFGBG"))}
	if columns, err := strconv.Atoi(sys.getenv("COLUMNS")); err == nil && columns > 0 {
		o.Width = columns
	}
	switch {
	case f.color.value == "always":
		o.Color = view.Always
	case f.color.value == "auto" && terminal && sys.getenv("NO_COLOR") == "" && sys.getenv("TERM") != "dumb":
		o.Color = view.Auto
	}
	// A log is read with who knows what: only a terminal that says UTF-8 gets more than ASCII.
	o.Unicode = terminal && utf8Locale(sys)
	return o
}

// dark reads COLORFGBG ("15;0": white on black), as terminals set it; most are dark.
func dark(colours string) bool {
	_, background, ok := strings.Cut(colours, ";")
	if !ok {
		return true
	}
	if i := strings.LastIndexByte(background, ';'); i >= 0 {
		background = background[i+1:]
	}
	return background != "7" && background != "15"
}

func utf8Locale(sys System) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToLower(sys.getenv(name)); value != "" {
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

func (f *outputFlags) logger(out io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelWarn}
	if f.verbose {
		o.Level = slog.LevelInfo
	}
	if f.logFormat.value == "json" {
		return slog.New(slog.NewJSONHandler(out, o))
	}
	return slog.New(slog.NewTextHandler(out, o))
}

// meter shows progress on stderr.
func (f *outputFlags) meter(sys System, dryRun bool) *view.Meter {
	o := f.view(sys, sys.Err, sys.ErrTerminal)
	var log *slog.Logger
	if f.logFormat.value == "json" {
		log = slog.New(slog.NewJSONHandler(sys.Err, nil))
	}
	return view.NewMeter(view.MeterOptions{
		Log: log, Out: sys.Err, Disabled: f.noProgress || f.quiet, Terminal: sys.ErrTerminal,
		Width: o.Width, Unicode: o.Unicode, DryRun: dryRun, Clock: view.SystemClock{},
	})
}

// show prints a report and turns its exit code into the command's.
func (f *outputFlags) show(sys System, r *janitor.Report) error {
	var err error
	if f.json() {
		err = sys.writeJSON(r)
	} else {
		err = view.Human(f.view(sys, sys.Out, sys.OutTerminal)).Report(r)
	}
	if err != nil {
		return sys.unwritten(r, err)
	}
	if r.ExitCode != janitor.ExitDone {
		return exit{r.ExitCode}
	}
	return nil
}

// showPolicy prints a policy in the place of a run.
func (f *outputFlags) showPolicy(sys System, p janitor.Policy) error {
	if !f.json() {
		_, err := sys.Out.Write(policyfile.Format(p))
		return sys.written(err)
	}
	document, err := policyfile.JSON(p)
	if err == nil {
		err = view.JSON(sys.Out, document)
	}
	return sys.written(err)
}

func (sys System) writeJSON(r *janitor.Report) error { return view.JSON(sys.Out, r) }

// unwritten says on stderr what could not be said on stdout. A run that went well but whose report
// nobody got is no success.
func (sys System) unwritten(r *janitor.Report, err error) error {
	fmt.Fprintf(sys.Err, "redis-janitor %s: the report could not be written: %v\nredis-janitor %s: %s (%s): %s\n",
		r.Command, err, r.Command, r.Outcome, r.Reason, r.Message)
	if r.ExitCode == janitor.ExitDone || r.ExitCode == janitor.ExitToEvict {
		return exit{janitor.ExitFailed}
	}
	return exit{r.ExitCode}
}

// written is the end of a command that only prints.
func (sys System) written(err error) error {
	if err == nil {
		return nil
	}
	fmt.Fprintf(sys.Err, "redis-janitor: write the output: %v\n", err)
	return exit{janitor.ExitFailed}
}

// answer is what a person typed.
type answer struct {
	line string
	err  error
}

// confirm asks the person at the terminal; anything but yes is no. The meter leaves the terminal to the question.
func (f *outputFlags) confirm(sys System, meter *view.Meter) func(context.Context, *janitor.Report) (bool, error) {
	return func(ctx context.Context, plan *janitor.Report) (bool, error) {
		o := f.view(sys, sys.Err, sys.ErrTerminal)
		o.Quiet = false
		defer meter.Hold()()
		if err := view.ConfirmPrompt(o, plan); err != nil {
			return false, err
		}
		// A terminal's read can't be interrupted, so Ctrl-C at the question leaves it behind.
		answers := make(chan answer, 1)
		go func() {
			line, err := bufio.NewReader(sys.In).ReadString('\n')
			answers <- answer{line, err}
		}()
		select {
		case <-ctx.Done():
			// The question's line is still open. What follows begins one of its own.
			_, err := fmt.Fprintln(sys.Err)
			return false, errors.Join(context.Cause(ctx), err)
		case a := <-answers:
			if a.err != nil && !errors.Is(a.err, io.EOF) {
				return false, a.err
			}
			return strings.EqualFold(strings.TrimSpace(a.line), "yes"), nil
		}
	}
}

// env is what surrounds a run of package janitor. Without a meter nobody is told or asked anything on the way.
func (f *outputFlags) env(sys System, meter *view.Meter, log *slog.Logger) janitor.Env {
	env := janitor.Env{
		Now: sys.Now, Log: log, Machine: probe.ThisMachine{Root: sys.Root}, LockDir: sys.LockDir,
		Name:   fmt.Sprintf("%s pid %d", sys.Hostname, sys.PID),
		Random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), //nolint:gosec // it spreads start times.
	}
	if meter == nil {
		return env
	}
	env.Progress = meter.Update
	if sys.InTerminal {
		env.Confirm = f.confirm(sys, meter)
	}
	return env
}

// libraryLog sends what the Redis client has to say where our own log goes, instead of raw to stderr.
func libraryLog(log *slog.Logger) {
	keyspace.QuietLibrary(func(_ context.Context, format string, args ...any) {
		log.Info(fmt.Sprintf(format, args...))
	})
}
