package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"redis-janitor/janitor/redistest"
)

func recipe(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("docs", "recipes", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// recipeSite is a filled server with the Redis user of docs/acl.md, and a folder with the files that recipes expect.
func recipeSite(t *testing.T) (s *site, dir string) {
	t.Helper()
	s, dir = &site{bin: program(t), server: redistest.Start(t)}, t.TempDir()
	s.fill(t)
	_, section, _ := strings.Cut(pageOf(t, "docs/acl.md").text, "\n## Execute, Redis 7.0 and later\n")
	_, rules, _ := strings.Cut(section, "```acl\n")
	rules, _, _ = strings.Cut(rules, "```")
	var command []any
	for _, word := range strings.Fields(rules) {
		command = append(command, word)
	}
	if err := s.server.Client().Do(t.Context(), command...).Err(); err != nil {
		t.Fatalf("%q: %v", command, err)
	}
	for name, text := range map[string]string{"password": "PASSWORD\n", "policy.yaml": said(t, s.bin, "plan", "--policy-show", "--memory-limit", s.limit)} {
		if err := writeFile(dir, name, text); err != nil {
			t.Fatal(err)
		}
	}
	return s, dir
}

func writeFile(dir, name, text string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
}

// evicts runs a recipe's command line, which must do its work under the documented user.
func (s *site) evicts(t *testing.T, dir, script string, env ...string) (output string) {
	t.Helper()
	before := s.server.Client().DBSize(t.Context()).Val()
	here := func(text string) string {
		return strings.NewReplacer("/run/secrets/redis-janitor", dir, "/var/lib/redis-janitor", dir, "%d/", dir+"/", "--splay=30s", "--splay=30ms").Replace(s.here(text, dir))
	}
	shell := exec.Command("sh", "-e", "-c", here(script))
	shell.Dir = dir
	shell.Env = []string{"PATH=" + s.bin + ":" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir()}
	for _, variable := range env {
		shell.Env = append(shell.Env, here(variable))
	}
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, script, out)
	}
	if after := s.server.Client().DBSize(t.Context()).Val(); after > before-100 {
		t.Errorf("it evicted %d keys: %s\n%s", before-after, script, out)
	}
	for _, code := range []string{"noperm", "no_lease", "no_cooldown", "pause_unknown"} {
		if strings.Contains(string(out), code) {
			t.Errorf("the documented user is not enough, %s:\n%s", code, out)
		}
	}
	return string(out)
}

func TestTheCronRecipeIsSilentAndEvicts(t *testing.T) {
	s, dir := recipeSite(t)
	var env []string
	ran := 0
	for line := range strings.Lines(recipe(t, "crontab")) {
		line = strings.TrimSpace(line)
		// A file in /etc/cron.d has the user's name before the command.
		fields := regexp.MustCompile(` +`).Split(line, 7)
		switch {
		case line == "", line[0] == '#':
		case len(fields) == 1:
			env = append(env, line)
		default:
			ran++
			if out := s.evicts(t, dir, fields[6], env...); out != "" || strings.Contains(line, "%") {
				t.Errorf("%s said %s", line, out)
			}
		}
	}
	if ran != 1 {
		t.Errorf("%d lines were run", ran)
	}
}

// unit reads a systemd unit: by section and name, all values.
func unit(t *testing.T, text string) map[string][]string {
	t.Helper()
	values, section := map[string][]string{}, ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, value, found := strings.Cut(line, "=")
		switch {
		case line == "", line[0] == '#':
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			section = line[1 : len(line)-1]
		case found && section != "":
			values[section+"."+name] = append(values[section+"."+name], value)
		default:
			t.Fatalf("no line of a unit: %q", line)
		}
	}
	return values
}

func TestTheSystemdRecipeEvictsAndItsUnitsAreValid(t *testing.T) {
	s, dir := recipeSite(t)
	service, timer := unit(t, recipe(t, "redis-janitor.service")), unit(t, recipe(t, "redis-janitor.timer"))
	if out := s.evicts(t, dir, service["Service.ExecStart"][0], service["Service.Environment"]...); out != "" {
		t.Errorf("it said %s", out)
	}
	if _, err := os.Stat(filepath.Join(dir, "redis-janitor.prom")); err != nil {
		t.Errorf("no metrics: %v", err)
	}
	if service["Service.LoadCredential"][0] != "password:/etc/redis-janitor/password" || service["Service.DynamicUser"][0] != "yes" {
		t.Errorf("%q", service)
	}
	if timer["Timer.OnCalendar"][0] != "*:0/5" || timer["Install.WantedBy"][0] != "timers.target" {
		t.Errorf("%q", timer)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // elsewhere than on such a Linux the look above has to do
	}
	units := t.TempDir()
	for _, name := range []string{"redis-janitor.service", "redis-janitor.timer"} {
		text := strings.ReplaceAll(recipe(t, name), "/usr/local/bin/", s.bin+"/")
		if err := os.WriteFile(filepath.Join(units, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verify := exec.Command(analyze, "verify", "--man=no", filepath.Join(units, "redis-janitor.service"), filepath.Join(units, "redis-janitor.timer"))
	if out, err := verify.CombinedOutput(); err != nil || bytes.Contains(out, []byte("redis-janitor.")) {
		t.Errorf("%v: %s", err, out)
	}
}

// strictly reads YAML of which nothing may be unknown.
func strictly(t *testing.T, text string, into any) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func TestTheGitHubActionsRecipePlansAndEvicts(t *testing.T) {
	s, dir := recipeSite(t)
	text := recipe(t, "github-actions.yml")
	var workflow struct {
		Name        string
		On          map[string]any
		Permissions map[string]string
		Concurrency string
		Jobs        map[string]struct {
			RunsOn         []string `yaml:"runs-on"`
			TimeoutMinutes int      `yaml:"timeout-minutes"`
			Env            map[string]string
			Steps          []struct{ Name, Run string }
		}
	}
	strictly(t, text, &workflow)
	job := workflow.Jobs["deploy"]
	var env []string
	for name, value := range job.Env {
		env = append(env, name+"="+strings.ReplaceAll(value, "${{ secrets.REDIS_JANITOR_PASSWORD }}", "PASSWORD"))
	}
	script := ""
	for _, step := range job.Steps {
		script += step.Run + "\n"
	}
	if out := s.evicts(t, dir, script, env...); !strings.Contains(out, "PLANNED") || !strings.Contains(out, "EVICTED") {
		t.Errorf("it said %s", out)
	}
}

func TestTheDockerfileBuildsAStaticProgramThatIsNotRoot(t *testing.T) {
	lines := map[string]string{} // of the last stage, by instruction
	var froms, runs []string
	for line := range strings.Lines(recipe(t, "Dockerfile")) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "", "#":
		case "FROM":
			lines, froms = map[string]string{}, append(froms, rest)
		case "RUN":
			runs = append(runs, rest)
		case "COPY", "ARG", "WORKDIR", "USER", "ENTRYPOINT", "CMD":
			lines[word] = rest
		default:
			t.Errorf("%s is no instruction that is known here", word)
		}
	}
	if len(froms) != 2 || froms[1] != "scratch" || !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(lines["USER"]) {
		t.Errorf("from %q, as user %q", froms, lines["USER"])
	}
	module, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if version := regexp.MustCompile(`golang:(\S+)`).FindStringSubmatch(froms[0]); version == nil || !strings.Contains(string(module), "\ngo "+version[1]) {
		t.Errorf("%s is not the Go of go.mod", froms[0])
	}
	// Built by the very line, in a copy: a build here would be in the way of others.
	dir := t.TempDir()
	script := "cp -R go.mod go.sum Makefile main.go cmd janitor patterns ttlpolicy " + dir + "; cd " + dir + "; " + runs[len(runs)-1]
	build := exec.Command("sh", "-e", "-c", script)
	build.Env = append(os.Environ(), "VERSION=v1.2.3", "COMMIT=abc")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", runs[len(runs)-1], err, out)
	}
	var entry, arguments []string
	if err := errors.Join(json.Unmarshal([]byte(lines["ENTRYPOINT"]), &entry), json.Unmarshal([]byte(lines["CMD"]), &arguments)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(entry, []string{"/redis-janitor"}) {
		t.Errorf("the entry is %q", entry)
	}
	out, err := exec.Command(dir+entry[0], append(arguments, "version")...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "version") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTheGunicornRecipeEvictsBeforeWorkersBootAndNeverStopsTheServer(t *testing.T) {
	s, dir := recipeSite(t)
	text := recipe(t, "gunicorn.conf.py")
	list := regexp.MustCompile(`(?m)^REDIS_JANITOR = (\[.*\])$`).FindStringSubmatch(text)
	var command []string
	if list == nil || json.Unmarshal([]byte(list[1]), &command) != nil {
		t.Fatal("the command is not there")
	}
	env := []string{"REDIS_URL=" + strings.Replace(s.server.URL(), "redis://", "redis://janitor@", 1), "REDISCLI_AUTH=PASSWORD"}
	s.evicts(t, dir, strings.Join(command, " "), env...)
	python, err := exec.LookPath("python3")
	if err != nil {
		return // the command has been run; the hook around it needs Python
	}
	hook := filepath.Join(dir, "hook.py")
	call := `
class Log:
    def info(self, *args): print("INFO", args[0] % args[1:])
    def warning(self, *args): print("WARNING", args[0] % args[1:])
class Server: log = Log()
on_starting(Server())
`
	if err := os.WriteFile(hook, []byte(s.here(text, dir)+call), 0o600); err != nil {
		t.Fatal(err)
	}
	s.fill(t)
	if out := s.evicts(t, dir, python+" "+hook, env...); !strings.HasPrefix(out, "INFO redis-janitor: exit 0: EVICTED") {
		t.Errorf("it logged %s", out)
	}
	for _, without := range []string{"REDIS_URL=redis://127.0.0.1:1/0", "PATH=" + os.Getenv("PATH")} {
		failing := exec.Command(python, hook)
		failing.Env = append(append([]string{"PATH=" + s.bin + ":" + os.Getenv("PATH")}, env...), without)
		if out, err := failing.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "WARNING redis-janitor: ") {
			t.Errorf("%s: %v: %s", without, err, out)
		}
	}
}

func TestEveryRecipeIsListedAndEveryListedOneExists(t *testing.T) {
	var listed, exist []string
	for _, link := range regexp.MustCompile(`\(recipes/([\w.-]+)\)`).FindAllStringSubmatch(pageOf(t, "docs/recipes.md").text, -1) {
		listed = append(listed, link[1])
	}
	entries, err := os.ReadDir("docs/recipes")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		exist = append(exist, e.Name())
	}
	expectSame(t, "docs/recipes.md", listed, exist)
}
