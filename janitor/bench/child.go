package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// childFlag in the first place makes this binary play one of the parts: each runs as a process of its own, so that its
// time and memory are its own.
const childFlag = "-child"

// part is one of the parts.
type part func(ctx context.Context, args []string) error

func parts() map[string]part {
	return map[string]part{
		"run":        runMeasured,
		"notes":      runNotes,
		"pipelines":  runPipelines,
		"foreground": runForeground,
		"proxy":      runProxy,
	}
}

// usage is what a process took.
type usage struct {
	Wall     time.Duration
	PeakRSS  int64 // bytes, of the largest process where there were several
	ExitCode int
}

// runMeasured starts a command and writes its usage to descriptor 3. Linux carries the peak memory of whoever starts a
// process over into that process's: so this one, which does nothing else and is small, stands in between.
func runMeasured(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	start := time.Now()
	err := cmd.Run()
	u := usage{Wall: time.Since(start)}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	u.ExitCode = cmd.ProcessState.ExitCode()
	if rusage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.PeakRSS = rusage.Maxrss
		if runtime.GOOS == "linux" {
			u.PeakRSS <<= 10 // Linux counts in KiB (getrusage(2)), macOS in bytes
		}
	}
	return json.NewEncoder(os.NewFile(3, "usage")).Encode(u)
}

// measured runs a command to its end. A command that fails is an error, with what it wrote.
func measured(ctx context.Context, args ...string) (usage, string, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return usage{}, "", err
	}
	defer r.Close()
	var out, complaints strings.Builder
	cmd := self(ctx, append([]string{"run"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &complaints, []*os.File{w}
	err = cmd.Run()
	w.Close()
	var u usage
	if err == nil {
		err = json.NewDecoder(r).Decode(&u)
	}
	if err == nil && u.ExitCode != 0 {
		err = fmt.Errorf("exit code %d", u.ExitCode)
	}
	if err != nil {
		return u, "", fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, out.String(), complaints.String())
	}
	return u, out.String(), nil
}

// self is this binary in one of its parts.
func self(ctx context.Context, args ...string) *exec.Cmd {
	me, err := os.Executable()
	if err != nil {
		panic(failure{fmt.Errorf("find the benchmark's own binary: %w", err)})
	}
	return exec.CommandContext(ctx, me, append([]string{childFlag}, args...)...)
}

// selfArgs is self for a command line.
func selfArgs(args ...string) []string { return self(context.Background(), args...).Args }

// playPart runs one part, as a child.
func playPart(ctx context.Context, args []string, stderr io.Writer) int {
	play, ok := parts()[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "there is no part %q\n", args[0])
		return 64
	}
	if err := play(ctx, args[1:]); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", args[0], err)
		return 1
	}
	return 0
}
