package cmd

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"redis-janitor/cmd/metricsfile"
	"redis-janitor/janitor"
)

// metricsFlag says where metrics go.
type metricsFlag struct{ file string }

func (f *metricsFlag) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "metrics-file", "", "write metrics to `FILE` for node_exporter's textfile collector (name it *.prom)")
}

// write lets a package write what r came to. What goes wrong is said on stderr and in the report's
// warnings, and that is all: the work itself was done.
func (f *metricsFlag) write(ctx context.Context, warnings *[]janitor.Warning, log *slog.Logger, now time.Time,
	update func(ctx context.Context, file string, now time.Time) (corrupt string, err error)) {
	if f.file == "" {
		return
	}
	warn := func(code, message string) {
		log.Warn(message, "code", code)
		*warnings = append(*warnings, janitor.Warning{Code: code, Message: message})
	}
	// A run that was stopped has metrics, too.
	corrupt, err := update(context.WithoutCancel(ctx), f.file, now)
	if corrupt != "" {
		warn("metrics_corrupt", corrupt)
	}
	if err != nil {
		warn("metrics_unwritten", "the metrics file could not be written: "+err.Error())
	}
}

// writeRun lets package metricsfile write what a run came to.
func (f *metricsFlag) writeRun(ctx context.Context, output *outputFlags, sys System, r *janitor.Report) {
	f.write(ctx, &r.Warnings, output.logger(sys.Err), sys.Now(), func(ctx context.Context, file string, now time.Time) (string, error) {
		return metricsfile.Run(ctx, file, r, now)
	})
}
