package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// way is one manner of clearing the keyspace.
type way struct {
	name  string
	label string // in the tables
	// command is the command line that does it.
	command func(b *bench, addr string) []string
	// clears tells how many keys must be gone afterwards.
	clears func(contents) int64
	// what it clears, in a word, for the tables.
	what string
}

// floorWay is the name of the way that all others are compared with, and smallerWay of the one that does less: it does
// not keep a result whose TTL lies above the lifetime.
const floorWay, smallerWay = "floor", "smaller"

// ways lists them in the order of the tables.
func ways() []way {
	both := contents.due
	all := []way{}
	for _, pace := range []string{"gentle", "balanced", "fast"} {
		all = append(all, way{pace, "redis-janitor `--pace " + pace + "`", func(b *bench, addr string) []string {
			return b.janitor(addr, "execute", "--policy", b.policy, "--pace", pace, "--level", "force", "--target", "none",
				"--ignore-busy", "--ignore-cooldown", "--yes")
		}, both, "both"})
	}
	for _, ending := range []string{".jsonl", ".jsonl.zst"} {
		all = append(all, way{"receipt" + ending, "`--pace fast`, `--receipt` to a `" + ending + "` file", func(b *bench, addr string) []string {
			file := filepath.Join(b.dir, fmt.Sprintf("%d%s", time.Now().UnixNano(), ending)) // a receipt never takes another's place
			return b.janitor(addr, "execute", "--policy", b.policy, "--pace", "fast", "--level", "force", "--target", "none",
				"--ignore-busy", "--ignore-cooldown", "--yes", "--receipt", file)
		}, both, "both"})
	}
	return append(all,
		way{"notes", "the notes' code: KEYS, TTL a key, one DEL", func(_ *bench, addr string) []string {
			return selfArgs("notes", addr)
		}, both, "both"},
		way{"xargs", "`redis-cli --scan \\| xargs -n 1000 redis-cli unlink`", func(_ *bench, addr string) []string {
			host, port, _ := strings.Cut(addr, ":")
			at := "redis-cli -h " + host + " -p " + port
			return []string{"sh", "-c", fmt.Sprintf("%s --scan --pattern '%s*' | xargs -n 1000 %s unlink >/dev/null", at, resultPrefix, at)}
		}, func(c contents) int64 { return c.Results }, "ML results only"},
		way{"pipelines", "SCAN, PTTL and UNLINK in pipelines of 1,000", func(_ *bench, addr string) []string {
			return selfArgs("pipelines", addr)
		}, both, "both"},
		way{smallerWay, "one Lua script that reads no result's TTL", func(b *bench, addr string) []string {
			return evaluated(addr, b.smallerFile)
		}, both, "both, unchecked"},
		way{floorWay, "the floor: the whole job in one Lua script", func(b *bench, addr string) []string {
			return evaluated(addr, b.floorFile)
		}, both, "both"},
	)
}

// evaluated is the command line that runs a script inside the server.
func evaluated(addr, file string) []string {
	host, port, _ := strings.Cut(addr, ":")
	return []string{"redis-cli", "-h", host, "-p", port, "--eval", file}
}

// chosenWays picks ways by their names, in the tables' order; all of them where names is empty.
func chosenWays(names string) ([]way, error) {
	all := ways()
	if names == "" {
		return all, nil
	}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(names, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	var chosen []way
	for _, w := range all {
		if wanted[w.name] {
			chosen = append(chosen, w)
			delete(wanted, w.name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("there is no way %q", name)
	}
	return chosen, nil
}

// policyText is the policy for the keyspace of fillCombot. Everything it does not say is as in the built-in one, the
// counting of active users included.
func policyText() string {
	return fmt.Sprintf(`version: 1
name: benchmark
busy: {users_over: 20, users_from: "family:sessions", active_within: 2h}
protect: ["celery*", "_kombu*", "unacked*"]
families:
  - name: ml-results
    match: ["%s*"]
    lifetime: %dh
    no_ttl: evict
    older_than: {cleanup: 0s, force: 0s, critical: 0s}
  - name: sessions
    match: ["%s*"]
    lifetime: %dh
    no_ttl: keep
    older_than: {force: %dh, critical: %dh}
`, resultPrefix, int(resultLifetime.Hours()), sessionPrefix, int(sessionLifetime.Hours()), int(sessionAge.Hours()), int(sessionAge.Hours()))
}

// bench is what all scenarios share.
type bench struct {
	options
	dir         string // its own, gone at the end
	binary      string // the janitor, built from this source
	policy      string // file for the keyspace of fillCombot
	floorFile   string
	smallerFile string
	log         func(format string, args ...any)
}

// prepare builds the janitor and writes what the ways need.
func prepare(ctx context.Context, o options, log func(string, ...any)) (*bench, error) {
	dir, err := os.MkdirTemp("", "redis-janitor-bench")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir, log: log, binary: filepath.Join(dir, "redis-janitor"),
		policy: filepath.Join(dir, "policy.yaml"), floorFile: filepath.Join(dir, "floor.lua"), smallerFile: filepath.Join(dir, "smaller.lua")}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", b.binary, "redis-janitor")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return b, fmt.Errorf("build the janitor: %w\n%s", err, out)
	}
	if err := os.WriteFile(b.policy, []byte(policyText()), 0o600); err != nil {
		return b, err
	}
	if err := os.WriteFile(b.smallerFile, []byte(floorScript(false)), 0o600); err != nil {
		return b, err
	}
	return b, os.WriteFile(b.floorFile, []byte(floorScript(true)), 0o600)
}

func (b *bench) close() error { return os.RemoveAll(b.dir) }

// janitor is a command line of the janitor. Its own reports are not what is measured here.
func (b *bench) janitor(addr, command string, args ...string) []string {
	return append([]string{b.binary, command, "--url", "redis://" + addr + "/0", "--no-progress", "-o", "json"}, args...)
}

// cleared is one run of a way.
type cleared struct {
	usage
	ServerCPU time.Duration
	// what the foreground client saw meanwhile; nil where there was none.
	Latencies []time.Duration
}

// clear restores the keyspace and has a way clear it, through addr where it is not the server's own. It is an error
// when other keys are gone than should be.
func (b *bench) clear(ctx context.Context, s store, held contents, w way, via string, foreground bool) (cleared, error) {
	if err := s.restore(ctx); err != nil {
		return cleared{}, err
	}
	if via == "" {
		via = s.entrance()
	}
	var load *load
	if foreground {
		var err error
		if load, err = startLoad(ctx, s.entrance()); err != nil {
			return cleared{}, err
		}
		defer load.abandon()
	}
	before, err := s.cpu(ctx)
	if err != nil {
		return cleared{}, err
	}
	var run cleared
	from := time.Now()
	if run.usage, _, err = measured(ctx, w.command(b, via)...); err != nil {
		return run, err
	}
	until := time.Now()
	if err := s.drain(ctx); err != nil {
		return run, err
	}
	after, err := s.cpu(ctx)
	if err != nil {
		return run, err
	}
	run.ServerCPU = after - before
	if load != nil {
		if run.Latencies, err = load.stop(from, until); err != nil {
			return run, err
		}
	}
	left, err := s.left(ctx)
	if err != nil {
		return run, err
	}
	return run, w.check(held, left)
}

// check is an error where other keys are gone than should be.
func (w way) check(held, left contents) error {
	gone := contents{Keys: held.Keys - left.Keys, Results: held.Results - left.Results, Sessions: held.Sessions - left.Sessions}
	due := contents{Keys: w.clears(held), Results: held.Results, Sessions: w.clears(held) - held.Results}
	if gone == due {
		return nil
	}
	return fmt.Errorf("%s: %d keys are gone, %d results and %d sessions among them; it should be %d, %d and %d", w.name,
		gone.Keys, gone.Results, gone.Sessions, due.Keys, due.Results, due.Sessions)
}
