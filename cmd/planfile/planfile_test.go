package planfile

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// made is a plan by a policy.
func made(policy janitor.Policy) *janitor.SavedPlan {
	line := int64(90_000)
	p := &janitor.SavedPlan{ID: "0123", MadeAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Version: "1 <2> & \u2028",
		Policy: janitor.SavedPolicy{Name: policy.Name, SHA256: policy.SHA256(), FileSHA256: "ab"}, Report: &janitor.Report{Message: "a < b"}}
	n := janitor.SavedNode{Addr: "h:1", RunID: "run", DB: 3, Level: ttlpolicy.Force, ZeroMS: 1, Sample: ttlpolicy.Sample{Looked: 2, Population: 3, Stale: 0.1}}
	for _, f := range policy.Families {
		n.Families = append(n.Families, janitor.SavedFamily{Name: f.Name, Waterline: janitor.SavedWaterline{TTLMS: &line},
			Outlook: ttlpolicy.Outlook{Due: ttlpolicy.Bins{0, 2}, Young: ttlpolicy.Bins{1}, NoTTL: 4}})
	}
	p.Nodes = []janitor.SavedNode{n, {Addr: "h:2", Level: ttlpolicy.OK}}
	return p
}

func TestWhatIsNoPlanIsNotReplacedByOne(t *testing.T) {
	policy := janitor.Combot()
	name := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(name, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(name, made(policy), policy); err == nil || !strings.Contains(err.Error(), "holds no plan") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(name); err != nil || string(text) != "version: 1\n" {
		t.Errorf("it holds %q now, %v", text, err)
	}
}

func TestAPlanComesBackAsItWasSavedWhateverItsPolicySays(t *testing.T) {
	bare := janitor.Defaults()
	bare.Name = "no protection, nothing else"
	bare.Families = janitor.Combot().Families[:1]
	raw := janitor.Combot()
	raw.Protect, raw.Families[0].Match = []string{"\xff\x00*", "\u2028", `"\`}, []string{"ml\xfe:*"}
	raw.Memory.Target = janitor.Target{None: true}
	for _, policy := range []janitor.Policy{janitor.Combot(), bare, raw} {
		name := filepath.Join(t.TempDir(), "plan.json")
		if err := os.WriteFile(name, []byte(`{"schema": "redis-janitor/plan/v0"}`), 0o644); err != nil {
			t.Fatal(err)
		}
		p := made(policy)
		if err := Write(name, p, policy); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("its mode is %v: %v", info.Mode(), err)
		}
		got, by, err := Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, p) || by.SHA256() != policy.SHA256() {
			t.Errorf("it was\n%+v\nand is\n%+v", p, got)
		}
	}
}

func TestAFileThatHoldsNoPlanIsRefusedInAWord(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	if err := Write(good, made(janitor.Combot()), janitor.Combot()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	lacking := made(janitor.Combot())
	lacking.Nodes[0].Families = lacking.Nodes[0].Families[:1]
	other := made(janitor.Combot())
	other.Policy.SHA256 = "of another"
	for word, content := range map[string]func() []byte{
		"not a whole JSON document":   func() []byte { return text[:len(text)/2] },
		"unexpected end of JSON":      func() []byte { return nil },
		"is no plan":                  func() []byte { return []byte(`{"schema": "redis-janitor/report/v1"}`) },
		"its schema is \"\"":          func() []byte { return []byte(`{}`) },
		"the version that made it":    func() []byte { return []byte(strings.Replace(string(text), "plan/v1", "plan/v2", 1)) },
		"was changed since":           func() []byte { return []byte(strings.Replace(string(text), `"ttl_ms": 90000`, `"ttl_ms": 91000`, 1)) },
		"it has 1 families":           func() []byte { return written(t, lacking) },
		"does not have the digest":    func() []byte { return written(t, other) },
		"it lacks an id":              func() []byte { p := made(janitor.Combot()); p.ID = ""; return written(t, p) },
		"name a file that plan --sav": func() []byte { return []byte("version: 1\n") },
	} {
		name := filepath.Join(dir, "wrong")
		if err := os.WriteFile(name, content(), 0o600); err != nil {
			t.Fatal(err)
		}
		var refused *Error
		if _, _, err := Read(name); !errors.As(err, &refused) || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", word, err)
		}
	}
	for _, name := range []string{filepath.Join(dir, "none"), dir} {
		var refused *Error
		if _, _, err := Read(name); !errors.As(err, &refused) || !strings.Contains(err.Error(), "cannot be read") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAPlanThatCannotBeWrittenLeavesWhatWasThere(t *testing.T) {
	if err := Write(filepath.Join(t.TempDir(), "none", "plan.json"), made(janitor.Combot()), janitor.Combot()); err == nil {
		t.Error("a folder that is not there was written to")
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(pipe, made(janitor.Combot()), janitor.Combot()); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a pipe: %v", err)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("in the pipe's place is %v: %v", info.Mode(), err)
	}
}

func written(t *testing.T, p *janitor.SavedPlan) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "plan")
	if err := Write(name, p, janitor.Combot()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
