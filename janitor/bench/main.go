// Command bench measures the janitor beside the other ways to do its job, on a redis-server of its own, and writes
// docs/benchmarks.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	keys     int
	rounds   int
	ways     string
	out      string
	scenario string
	noLoad   bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stderr io.Writer) int {
	if len(args) > 1 && args[0] == childFlag {
		return playPart(ctx, args[1:], stderr)
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.keys, "n", 1_000_000, "`keys` in the keyspace")
	flags.IntVar(&o.rounds, "rounds", 0, "how often everything is measured (default: as often as each scenario needs)")
	flags.StringVar(&o.ways, "ways", "", "which ways, separated by commas (default: all)")
	flags.StringVar(&o.out, "out", "docs/benchmarks.md", "`FILE` to write")
	flags.StringVar(&o.scenario, "scenario", "", "which scenarios, separated by commas (default: all)")
	flags.BoolVar(&o.noLoad, "no-load", false, "leave out the rounds beside a foreground client")
	if err := flags.Parse(args); err != nil {
		return 64
	}
	start := time.Now()
	log := func(format string, args ...any) {
		fmt.Fprintf(stderr, "%6.0fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	if err := measure(ctx, o, log); err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// measure runs the scenarios. What package redistest cannot do comes as a panic.
func measure(ctx context.Context, o options, log func(string, ...any)) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = p.error
		default:
			panic(p)
		}
	}()
	b, err := prepare(ctx, o, log)
	if b != nil {
		defer func() { err = errors.Join(err, b.close()) }()
	}
	if err != nil {
		return err
	}
	return b.all(ctx)
}
