package main_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor/redistest"
)

// page is one of the texts that operators read.
type page struct {
	file, text string
	blocks     []block
}

// block is a fenced piece of a page, with the HTML comment above it.
type block struct {
	language, text, comment string
	line                    int
}

var (
	fence   = regexp.MustCompile("^( *)```([a-z]*)$")
	comment = regexp.MustCompile(`^ *<!-- (.*) -->$`)
)

func pages(t *testing.T) []page {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("finding the pages: %q, %v", files, err)
	}
	var all []page
	for _, file := range append(files, "README.md", "CHANGELOG.md", "CONTRIBUTING.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page{file, string(text), blocksOf(string(text))})
	}
	return all
}

func pageOf(t *testing.T, file string) page {
	t.Helper()
	all := pages(t)
	i := slices.IndexFunc(all, func(p page) bool { return p.file == file })
	if i < 0 {
		t.Fatalf("there is no %s", file)
	}
	return all[i]
}

func blocksOf(text string) []block {
	var all []block
	var open *block
	above, indent := "", ""
	for i, line := range strings.Split(text, "\n") {
		f := fence.FindStringSubmatch(line)
		switch {
		case open != nil && f != nil:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		case f != nil:
			open, indent = &block{language: f[2], comment: above, line: i + 1}, f[1]
		}
		above = ""
		if c := comment.FindStringSubmatch(line); c != nil {
			above = c[1]
		}
	}
	return all
}

// table is the first column of the table under a heading, without backticks, and the other columns with it.
func (p page) table(t *testing.T, heading string) map[string][]string {
	t.Helper()
	_, section, found := strings.Cut("\n"+p.text, "\n"+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string][]string{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 4 || cells[0] != "" {
			continue
		}
		for _, name := range regexp.MustCompile("`[^`]+`|^ [0-9]+ $").FindAllString(cells[1], -1) {
			rows[strings.Trim(name, "` ")] = cells[2:]
		}
	}
	if !found || len(rows) == 0 {
		t.Fatalf("%s has no table under %q", p.file, heading)
	}
	return rows
}

// expectSame holds what a page names against what there is.
func expectSame(t *testing.T, where string, said, is []string) {
	t.Helper()
	for _, name := range said {
		if !slices.Contains(is, name) {
			t.Errorf("%s names %s, which does not exist", where, name)
		}
	}
	for _, name := range is {
		if !slices.Contains(said, name) {
			t.Errorf("%s does not name %s", where, name)
		}
	}
}

func keysOf[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// program builds redis-janitor and returns its folder, to be put on the PATH.
func program(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, module), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return dir
}

func said(t *testing.T, bin string, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, module), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", module, args, err, out)
	}
	return string(out)
}

// site is the private server that the pages' commands are run against, and what stands in for the names in them.
type site struct {
	bin    string
	server *redistest.Server
	limit  string // what 8 GB are here, so that memory is at level force
}

// fill makes the server what the pages speak of: a chatbot's cache with memory above 75 %.
func (s *site) fill(t *testing.T) {
	t.Helper()
	c := s.server.Client()
	if err := c.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	pipe, random := c.Pipeline(), rand.New(rand.NewPCG(1, 1))
	sow := func(n int, prefix string, size int, lifetime time.Duration) {
		for range n {
			ttl := time.Minute + time.Duration(random.Int64N(int64(lifetime-time.Minute)))
			pipe.Set(t.Context(), prefix+strconv.FormatUint(random.Uint64(), 16), strings.Repeat("x", size), ttl)
		}
	}
	sow(2000, "ml_results:", 3000, 2*time.Hour)
	sow(600, "combot_cache:1:view:", 800, time.Hour)
	sow(300, "combot_cache:1:django.contrib.sessions.cache", 300, 20*time.Minute)
	sow(1800, "result:", 3000, 2*time.Hour)
	sow(50, "user:", 500, 24*time.Hour)
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	info := c.InfoMap(t.Context(), "memory").Val()["Memory"]
	used, err := strconv.ParseFloat(info["used_memory"], 64)
	if err != nil {
		t.Fatal(err)
	}
	s.limit = strconv.FormatInt(int64(used/0.78), 10)
	if err := c.ConfigSet(t.Context(), "maxmemory", s.limit).Err(); err != nil {
		t.Fatal(err)
	}
}

// here puts this site's names in the place of a page's.
func (s *site) here(text, dir string) string {
	return strings.NewReplacer("cache.internal:6379", s.server.Addr, "8gb", s.limit, "--splay 30s", "--splay 30ms",
		"/etc/redis-janitor", dir, "/usr/local/bin/"+module, module).Replace(text)
}

// run runs a script as an operator's shell would, in a folder with the files that its page shows.
func (s *site) run(t *testing.T, p page, script string, env ...string) (output string, code int) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("built-in.yaml", said(t, s.bin, "plan", "--policy-show", "--memory-limit", s.limit))
	for _, b := range p.blocks {
		if name, ok := strings.CutPrefix(b.comment, "file: "); ok {
			write(name, s.here(b.text, dir))
		}
	}
	shell := exec.Command("sh", "-e", "-c", s.here(script, dir))
	shell.Dir = dir
	shell.Env = append([]string{"PATH=" + s.bin + ":" + os.Getenv("PATH"), "REDIS_URL=" + s.server.URL(), "REDIS_JANITOR_POLICY=" + filepath.Join(dir, "built-in.yaml")}, env...)
	for i := range shell.Env {
		shell.Env[i] = s.here(shell.Env[i], dir)
	}
	out, err := shell.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return string(out), shell.ProcessState.ExitCode()
}

// exits reads "exit 3" or "exit 5, auth": how the block below ends, and with which reason.
var exits = regexp.MustCompile(`^exit (\d+)(?:, (\w+))?$`)

func TestCommandsInThePagesWork(t *testing.T) {
	s := &site{bin: program(t), server: redistest.Start(t)}
	ran := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.language != "sh" || !regexp.MustCompile(`(?m)^`+module+` `).MatchString(b.text) {
				continue
			}
			ran++
			t.Run(fmt.Sprintf("%s:%d", p.file, b.line), func(t *testing.T) {
				code, reason := "0", ""
				if m := exits.FindStringSubmatch(b.comment); m != nil {
					code, reason = m[1], m[2]
				} else if b.comment != "" {
					t.Fatalf("the comment %q says nothing of how it ends", b.comment)
				}
				s.fill(t)
				out, got := s.run(t, p, b.text)
				if strconv.Itoa(got) != code {
					t.Errorf("exit code %d, want %s\n%s\n%s", got, code, b.text, out)
				}
				if reason != "" && !strings.Contains(strings.Join(strings.Fields(out), " "), reason+", exit "+code) {
					t.Errorf("the reason is not %s:\n%s", reason, out)
				}
			})
		}
	}
	if ran < 10 {
		t.Errorf("only %d blocks were found", ran)
	}
}

func TestCronLinesInThePagesAreSilentAndWork(t *testing.T) {
	s := &site{bin: program(t), server: redistest.Start(t)}
	ran := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.language != "crontab" {
				continue
			}
			var env []string
			for line := range strings.Lines(b.text) {
				fields := regexp.MustCompile(` +`).Split(strings.TrimSpace(line), 6)
				if len(fields) == 1 {
					env = append(env, fields[0])
					continue
				}
				ran++
				s.fill(t)
				before := s.server.Client().DBSize(t.Context()).Val()
				out, code := s.run(t, p, fields[5], env...)
				if code != 0 || out != "" {
					t.Errorf("%s:%d: exit code %d: %s\n%s", p.file, b.line, code, line, out)
				}
				if strings.Contains(line, "execute") && s.server.Client().DBSize(t.Context()).Val() > before-100 {
					t.Errorf("%s:%d evicted nothing: %s", p.file, b.line, line)
				}
			}
		}
	}
	if ran == 0 {
		t.Error("no cron line was found")
	}
}

func TestPoliciesInThePagesAreAccepted(t *testing.T) {
	bin, found := program(t), 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.language != "yaml" || !strings.HasPrefix(b.text, "version: ") {
				continue
			}
			found++
			file := filepath.Join(t.TempDir(), "policy.yaml")
			if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			said(t, bin, "plan", "--policy", file, "--policy-show")
		}
	}
	if found < 2 {
		t.Errorf("only %d policies were found", found)
	}
}

// prose is a page without its fenced blocks.
func (p page) prose() string {
	inside, kept := false, ""
	for line := range strings.Lines(p.text) {
		if fence.MatchString(strings.TrimRight(line, "\n")) {
			inside = !inside
		} else if !inside {
			kept += line
		}
	}
	return kept
}

// anchors are the names that a page's headings get from what shows it.
func (p page) anchors() []string {
	var names []string
	for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(p.prose(), -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

func TestLinksBetweenThePagesLeadSomewhere(t *testing.T) {
	all := map[string]page{}
	for _, p := range pages(t) {
		all[p.file] = p
	}
	found := 0
	for _, p := range all {
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(p.prose(), -1) {
			target, anchor, hasAnchor := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			found++
			file := p.file
			if target != "" {
				file = filepath.Join(filepath.Dir(p.file), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %s leads nowhere", p.file, link[1])
			} else if hasAnchor && !slices.Contains(all[file].anchors(), anchor) {
				t.Errorf("%s: %s has no heading #%s, but %q", p.file, file, anchor, all[file].anchors())
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d links were found", found)
	}
}

func TestPagesThatTheProgramNamesExist(t *testing.T) {
	found := 0
	for file, source := range sources(t, false) {
		if strings.HasPrefix(file, "janitor/bench/") {
			continue // it writes its page itself
		}
		for _, name := range regexp.MustCompile(`\bdocs/[a-z-]+\.md`).FindAllString(source, -1) {
			found++
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s names %s", file, name)
			}
		}
	}
	if found == 0 {
		t.Error("no hint names a page")
	}
}

// sources are the Go files by their path, tests or all others.
func sources(t *testing.T, tests bool) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(".", func(file string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") != tests {
			return err
		}
		text, err := os.ReadFile(file)
		all[file] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTestsThatThePagesNameExist(t *testing.T) {
	var exist []string
	for _, source := range sources(t, true) {
		for _, f := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(source, -1) {
			exist = append(exist, f[1])
		}
	}
	named := 0
	for _, p := range pages(t) {
		for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(p.text, -1) {
			if named++; !slices.Contains(exist, name) {
				t.Errorf("%s names %s, and there is no such test", p.file, name)
			}
		}
	}
	if named < 10 {
		t.Errorf("only %d tests are named", named)
	}
}

func TestMakeTargetsInThePagesExist(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages(t) {
		for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)").FindAllStringSubmatch(p.text, -1) {
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s speaks of make %s", p.file, m[1])
			}
		}
	}
}

func TestEveryRowOfTheMemoryNotesHasItsPlace(t *testing.T) {
	_, table, _ := strings.Cut(pageOf(t, "docs/combot.md").text, "| the notes |")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := 0
	for _, row := range strings.Split(table, "\n")[2:] {
		rows++
		cells := strings.Split(strings.ReplaceAll(row, `\|`, ""), "|")
		if len(cells) != 5 || len(strings.Fields(cells[3])) < 3 || !strings.ContainsAny(cells[3], "`[") || strings.Contains(strings.ToLower(cells[3]), "not yet") {
			t.Errorf("without a place: %s", row)
		}
	}
	if rows != 11 {
		t.Errorf("%d rows, and the notes have 11", rows)
	}
}
