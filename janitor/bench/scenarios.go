package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// scenario is one section of the document.
type scenario struct {
	name string
	// rounds are enough by default: all scenarios together take 45 minutes on two quick cores, and twice as long on slow ones.
	rounds int
	run    func(*bench, context.Context) (section, error)
}

// scenarios lists them in the document's order.
func scenarios() []scenario {
	return []scenario{
		{"clear", 5, func(b *bench, ctx context.Context) (section, error) { return written(b.clearing(ctx)) }},
		{"cluster", 3, func(b *bench, ctx context.Context) (section, error) { return written(b.spreading(ctx)) }},
		{"rtt", 3, func(b *bench, ctx context.Context) (section, error) { return written(b.travelling(ctx)) }},
		{"tick", 5, func(b *bench, ctx context.Context) (section, error) { return written(b.ticking(ctx)) }},
		{"plan", 5, func(b *bench, ctx context.Context) (section, error) { return written(b.growing(ctx)) }},
		{"capsule", 3, func(b *bench, ctx context.Context) (section, error) { return written(b.preserving(ctx)) }},
		{"predict", 1, func(b *bench, ctx context.Context) (section, error) { return written(b.predicting(ctx)) }},
		{"judgement", 3, func(b *bench, ctx context.Context) (section, error) { return written(b.judging(ctx)) }},
	}
}

// written writes up what a scenario found.
func written[R interface{ section() section }](found R, err error) (section, error) {
	if err != nil {
		return section{}, err
	}
	return found.section(), nil
}

// chosenScenarios picks scenarios by their names; all of them where names is empty.
func chosenScenarios(names string) ([]scenario, error) {
	all := scenarios()
	if names == "" {
		return all, nil
	}
	var chosen []scenario
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, s := range all {
			if s.name == strings.TrimSpace(name) {
				chosen, found = append(chosen, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no scenario %q", name)
		}
	}
	return chosen, nil
}

// all runs the chosen scenarios and writes each into the document as soon as it is over.
func (b *bench) all(ctx context.Context) error {
	chosen, err := chosenScenarios(b.scenario)
	if err != nil {
		return err
	}
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	for _, s := range chosen {
		turn := *b
		turn.rounds = cmp.Or(b.rounds, s.rounds)
		conditions, err := turn.conditions(ctx)
		if err != nil {
			return err
		}
		b.log("scenario %s, rounds: %d", s.name, turn.rounds)
		found, err := s.run(&turn, ctx)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
		old, err := os.ReadFile(b.out)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		document := merge(string(old), preface(), names, map[string]string{s.name: found.markdown(conditions)})
		if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(b.out, []byte(document), 0o644); err != nil {
			return err
		}
	}
	b.log("written to %s", b.out)
	return nil
}

// preface is what stands before the sections.
func preface() string {
	return `# Benchmarks

Written by ` + "`make bench`" + `; don't edit. Seconds and megabytes are of one machine and one hour: what carries over to others are the
ratios. Each is formed within a round, from runs of the same few minutes on the same data, and given as the median of
the rounds with their lowest and highest in brackets. How many rounds there were stands above each section.

To repeat it, with redis-server and redis-cli installed and nothing else at work:

    make bench                                  # everything, 45 to 90 minutes on two cores
    go run ./janitor/bench -n 10000000 -rounds 3 -scenario clear
    go run ./janitor/bench -h

It starts servers of its own on free loopback ports, and they end with it. "Floor" is the whole job in one Lua script inside
the server: it serves nobody meanwhile, so nobody may use it, but it shows what the job costs at the least. Part of the job is
that a result whose TTL lies above the policy's lifetime stays; a script that leaves this check out is shown beside it. Other ways are as
their authors wrote them, or kinder: where a script asks for needless TTLs, ours doesn't. All of them, the janitor included,
are timed as processes, from start to exit. Server CPU is INFO's used_cpu_user + used_cpu_sys; a client's peak memory is
its getrusage's.
`
}

// conditions tells under what a section was measured. Whose machine it was and where nobody needs to know.
func (b *bench) conditions(ctx context.Context) (string, error) {
	s := startServer()
	defer s.close()
	info, err := s.info(ctx)
	if err != nil {
		return "", err
	}
	memory, _ := info.Int("total_system_memory")
	return fmt.Sprintf("*%s: -n %d -rounds %d; %s, %s, %s; %d cores, %.0f GB memory, %s/%s.*",
		time.Now().UTC().Format(time.DateOnly), b.keys, b.rounds, "redis-janitor "+b.revision(ctx), info.Server(), runtime.Version(), runtime.NumCPU(),
		float64(memory)/(1<<30), said(ctx, runtime.GOOS, "uname", "-sr"), runtime.GOARCH), nil
}

// revision is the commit that is measured, and whether anything but the document has been changed since: an earlier
// scenario has written into that.
func (b *bench) revision(ctx context.Context) string {
	commit := said(ctx, "outside of a repository", "git", "describe", "--always")
	state := []string{"git", "status", "--porcelain", "--", ":/"}
	if filepath.IsLocal(b.out) {
		state = append(state, ":(exclude)"+b.out)
	}
	if said(ctx, "", state...) != "" {
		commit += "-dirty"
	}
	return commit
}

// said is what a command says in one line, or something else where it says nothing.
func said(ctx context.Context, otherwise string, command ...string) string {
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
	if line := strings.TrimSpace(string(out)); err == nil && line != "" {
		return line
	}
	return otherwise
}
