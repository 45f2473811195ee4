package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAClusterIsGivenTheSameKeysAsASingleServer(t *testing.T) {
	s := testServer(t)
	const n = 10_000
	single, err := fillCombot(t.Context(), s.Addr, n)
	if err != nil {
		t.Fatal(err)
	}
	m := startMasters()
	t.Cleanup(m.close)
	spread, err := m.fill(t.Context(), n)
	if err != nil || spread != single {
		t.Fatalf("the cluster holds %+v, the server %+v: %v", spread, single, err)
	}
	for range 2 { // also after they were started anew
		for _, s := range m.servers {
			if keys := s.client.DBSize(t.Context()).Val(); keys < single.Keys/4 {
				t.Errorf("master %s has %d of the %d keys, want about a third", s.Addr, keys, single.Keys)
			}
		}
		left, err := m.left(t.Context())
		if err != nil || left.Keys != single.Keys || left.Results != single.Results || left.Sessions != single.Sessions {
			t.Errorf("%+v were counted, want %+v: %v", left, single, err)
		}
		if err := m.restore(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b := &bench{}
	idle := way{name: "idle", command: func(*bench, string) []string { return []string{"true"} }, clears: contents.due}
	if _, err := b.clear(t.Context(), m, spread, idle, "", false); err == nil || !strings.Contains(err.Error(), "0 keys are gone") {
		t.Errorf("got %v, want an error that says how many keys are gone", err)
	}
}

func TestTheJanitorsOwnKeysAreNotLeft(t *testing.T) {
	s := testServer(t)
	for _, key := range []string{"redis-janitor:cooldown:{12}", "redis-janitor:lease", resultPrefix + "1", sessionPrefix + "1", "other"} {
		s.client.Set(t.Context(), key, "x", 0)
	}
	left, err := s.left(t.Context())
	if want := (contents{Keys: 3, Results: 1, Sessions: 1}); err != nil || left != want {
		t.Errorf("%+v are left, want %+v: %v", left, want, err)
	}
}

func TestScenariosAreWrittenUpFromAFewKeys(t *testing.T) {
	b := prepared(t)
	b.ways, b.keys, b.noLoad = "fast,gentle,notes", 3000, true
	for name, want := range map[string][]string{
		"clear":   {"`gentle`: commands of longer than the pace's slice, 500µs", "commands that took longer"},
		"cluster": {"| redis-janitor `--pace fast`", "13000 keys on one server"},
		"plan":    {"RANDOMKEY, µs", "| 40000"},
	} {
		t.Run(name, func(t *testing.T) {
			chosen, err := chosenScenarios(name)
			if err != nil {
				t.Fatal(err)
			}
			found, err := chosen[0].run(b, t.Context())
			if err != nil {
				t.Fatal(err)
			}
			text := found.markdown("now")
			for _, part := range want {
				if !strings.Contains(text, part) {
					t.Errorf("%q is missing in\n%s", part, text)
				}
			}
		})
	}
	b.ways = "notes"
	if _, err := b.spreading(t.Context()); err == nil {
		t.Error("a way that knows no cluster was taken for one that does")
	}
}

func TestEveryScenarioHasRoundsOfItsOwn(t *testing.T) {
	for _, s := range scenarios() {
		if s.rounds < 1 {
			t.Errorf("%s has none", s.name)
		}
	}
}

func TestTheJanitorIsComparedWithTheBestOfTheOthers(t *testing.T) {
	j := &judgement{
		cleaners: []cleaner{nobody: {label: "nobody"}, builtIn: {label: "ours", ours: true}, {label: "ours too", ours: true}, {label: "kind"}, {label: "harsh"}},
		verdicts: [][]verdict{{{HitsLater: 90}}, {{HitsLater: 70}}, {{HitsLater: 80}}, {{HitsLater: 69}}, {{HitsLater: 75, LostSessions: 1}}},
	}
	rate := func(v verdict) float64 { return v.HitsLater }
	if g := j.ahead(builtIn, "of the kind", rate, func(v verdict) bool { return v.LostSessions == 0 }); !g.passed || !strings.HasPrefix(g.got, "1.0 ") {
		t.Errorf("ahead of who is kind: %+v, want 1 point", g)
	}
	if g := j.ahead(builtIn, "of all", rate, func(verdict) bool { return true }); g.passed || !strings.HasPrefix(g.got, "-5.0 ") {
		t.Errorf("ahead of everybody: %+v, want 5 points behind", g)
	}
}

func TestACommandThatTookLongerThanTheSliceMissesTheGoal(t *testing.T) {
	c := &clearing{ways: []way{{name: "gentle"}, {name: "fast"}, {name: floorWay}}, runs: map[string]*rounds{
		"gentle": {holds: []holding{{commands: 10}, {commands: 10, long: []time.Duration{sliceOf("gentle") + 1}}}},
		"fast":   {holds: []holding{{commands: 10, long: []time.Duration{sliceOf("gentle") + 1}}}},
	}}
	goals := c.holdsGoals()
	if len(goals) != 2 || goals[0].passed || goals[0].got != "5.00 % (1 of 20)" || !goals[1].passed {
		t.Errorf("got %+v", goals)
	}
}

func TestTheRevisionIsDirtyForAnythingButTheDocumentThatIsWritten(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	inside, outside := &bench{options: options{out: "measured.md"}}, &bench{options: options{out: filepath.Join(t.TempDir(), "measured.md")}}
	if got := inside.revision(t.Context()); got != "outside of a repository" {
		t.Errorf("got %q, and there is no repository", got)
	}
	if _, err := exec.LookPath("git"); err != nil {
		return // then there is never a repository to ask
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("code.go", "package one")
	write("measured.md", "")
	for _, command := range [][]string{
		{"init", "-q"}, {"add", "."},
		{"-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false", "commit", "-qm", "First"},
	} {
		if out, err := exec.CommandContext(t.Context(), "git", command...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", command, err, out)
		}
	}
	dirty := func(b *bench) bool { return strings.HasSuffix(b.revision(t.Context()), "-dirty") }
	if dirty(inside) || dirty(outside) {
		t.Error("dirty with nothing changed")
	}
	write("measured.md", "a section")
	if dirty(inside) {
		t.Error("dirty for the document that is being written")
	}
	if !dirty(outside) {
		t.Error("not dirty for a document that is not the one being written")
	}
	write("code.go", "package two")
	if !dirty(inside) {
		t.Error("not dirty with code that was changed")
	}
}
