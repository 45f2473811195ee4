package cmd

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor/demo/embedded"
)

// look is a way to look at a screen.
type look struct {
	name     string
	width    int
	terminal bool
	environ  []string
}

// Each width, background and kind of stream is among them; where nothing differs there is a file less.
var looks = []look{
	{"piped", 0, false, nil}, // the first: what the others are compared with
	{"80-nocolor", 80, true, []string{"NO_COLOR=1"}},
	{"80-dark", 80, true, []string{"COLORFGBG=15;0"}},
	{"120-light", 120, true, []string{"COLORFGBG=0;15"}},
}

// scene is a Redis, and a command line on it.
type scene struct {
	args   []string
	answer string     // what the person at the terminal types
	before [][]string // commands that are run before, and not looked at
}

// onFullRedis is a command on the Redis of play, which is at level force by this limit. Progress is left out: when it
// is drawn is the clock's.
func onFullRedis(line string) []string {
	return append(strings.Fields(line), "--memory-limit", "440kb", "--no-progress")
}

func scenes() map[string]scene {
	taken := [][]string{onFullRedis("execute --yes --capsule last.capsule")}
	return map[string]scene{
		"plan":         {args: onFullRedis("plan")},
		"dry-run":      {args: onFullRedis("dry-run")},
		"execute":      {args: onFullRedis("execute --yes")},
		"confirm-no":   {args: onFullRedis("execute"), answer: "no"},
		"skipped":      {args: onFullRedis("execute --yes --active-users 30")},
		"explain":      {args: onFullRedis("explain ml_results:001 combot_cache:1:page:07 celery-task-0 gone")},
		"check":        {args: onFullRedis("check -v --state check.json")},
		"restore":      {args: onFullRedis("restore last.capsule"), answer: "yes", before: taken},
		"demo":         {args: []string{"demo"}},
		"usage":        {args: []string{"plan", "--polcy", "shop.yaml"}},
		"policy":       {args: []string{"plan", "--policy", "wrong.yaml"}},
		"unreachable":  {args: []string{"plan", "-u", "redis://127.0.0.1:1/0"}},
		"refused":      {args: []string{"execute", "--yes", "--policy", "broad.yaml"}},
		"help":         {args: []string{"help"}},
		"help-execute": {args: []string{"execute", "--help"}},
	}
}

// typing is a person's answer, which the terminal shows as it is typed.
type typing struct {
	text   io.Reader
	screen io.Writer
}

func (k typing) Read(p []byte) (int, error) {
	n, err := k.text.Read(p)
	_, _ = k.screen.Write(p[:n])
	return n, err
}

// play runs a scene and returns what stands on the screen, both streams in their order.
func play(t *testing.T, s scene, l look) string {
	t.Helper()
	t.Chdir(t.TempDir())
	for file, text := range map[string]string{
		"wrong.yaml": "families:\n  - name: pages\n    match: \"page:*\"\n    lifetme: 1h\n",
		"broad.yaml": "families:\n  - {name: all, match: \"c*\", lifetime: 2h, older_than: {cleanup: 0s}}\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Date(2026, 11, 23, 2, 10, 0, 0, time.UTC)
	server, err := embedded.NewServer(began)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	set := func(count int, name string, ttl, step time.Duration) {
		for i := range count {
			key := fmt.Sprintf(name, i)
			if err := server.Miniredis().Set(key, strings.Repeat("v", 1000)); err != nil {
				t.Fatal(err)
			}
			if ttl > 0 {
				server.Miniredis().SetTTL(key, ttl+time.Duration(i)*step)
			}
		}
	}
	set(240, "ml_results:%03d", time.Minute, 29*time.Second)
	set(60, "combot_cache:1:page:%02d", time.Minute, 58*time.Second)
	set(15, "combot_cache:1:django.contrib.sessions.cache%02d", time.Minute, 90*time.Second)
	set(1, "celery-task-%d", 0, 0)

	var screen bytes.Buffer
	run := func(args []string, out io.Writer) int {
		return Run(t.Context(), System{
			Args: args, In: typing{strings.NewReader(s.answer + "\n"), out}, Out: out, Err: out,
			Environ:    append([]string{"REDIS_URL=" + server.URL(), "TERM=xterm-256color", "LANG=C.UTF-8"}, l.environ...),
			InTerminal: s.answer != "", OutTerminal: l.terminal, ErrTerminal: l.terminal, Width: l.width,
			Now: server.Now, Root: os.DirFS("/"), LockDir: t.TempDir(), Hostname: "host", PID: 1,
		})
	}
	for _, args := range s.before {
		if code := run(args, io.Discard); code != 0 {
			t.Fatalf("%v: exit %d", args, code)
		}
	}
	code := run(s.args, &screen)
	text := screen.String()
	for what, instead := range map[string]string{`127\.0\.0\.1:\d{5}`: "127.0.0.1:46379", `sha256 [0-9a-f]{12}`: "sha256 0123456789ab",
		`94 keys, \d\.\d\d KB`: "94 keys, 2.85 KB"} { // a capsule has the port in it
		text = regexp.MustCompile(what).ReplaceAllString(text, instead)
	}
	return fmt.Sprintf("$ redis-janitor %s\n%s[exit %d]\n", strings.Join(s.args, " "), text, code)
}

// slowed is what a run says that was slowed down for others' sake: by what else this machine does, and so not always.
var slowed = regexp.MustCompile(`slowed\s+down`)

// The screens that people see, of the program itself: a look at testdata/screens is a look at all of them.
func TestScreensAreAsInTheGoldenFiles(t *testing.T) {
	golden, err := filepath.Abs(filepath.Join("testdata", "screens"))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.RemoveAll(golden); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(golden, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	all, kept := scenes(), []string(nil)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		piped := ""
		for _, l := range looks {
			if name == "demo" && l.width > 80 {
				continue // it is long, and made of the others
			}
			got := play(t, all[name], l)
			for tries := 1; slowed.MatchString(got) && tries < 4; tries++ {
				got = play(t, all[name], l)
			}
			if slowed.MatchString(got) && !*update {
				t.Logf("this machine is too busy to show %s at %s", name, l.name)
				found, err := filepath.Glob(filepath.Join(golden, name+"-*.txt"))
				if err != nil {
					t.Fatal(err)
				}
				for _, file := range found {
					kept = append(kept, filepath.Base(file))
				}
				break // what is the same as another one could not be told
			}
			if l.name == looks[0].name {
				piped = got
			} else if got == piped {
				continue
			}
			file := name + "-" + l.name + ".txt"
			kept = append(kept, file)
			if *update {
				if err := os.WriteFile(filepath.Join(golden, file), []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(filepath.Join(golden, file)); err != nil || string(want) != got {
				t.Errorf("%s is not what is shown (%v); rewrite it with -update once this is right:\n%s", file, err, got)
			}
			for line := range strings.Lines(got) {
				if n := columns(regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(line, "")); n > max(l.width, 80) && !strings.HasPrefix(line, "REDIS ") && !strings.HasPrefix(line, "$ ") && l.terminal {
					t.Errorf("%s: %d columns: %s", file, n, line)
				}
			}
		}
	}
	found, err := os.ReadDir(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if !slices.Contains(kept, f.Name()) {
			t.Errorf("%s is nobody's screen", f.Name())
		}
	}
}
