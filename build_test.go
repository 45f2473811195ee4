package main_test

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The linker passes over a variable that does not exist, without a word.
func TestTheMakefileStampsVariablesThatTheVersionShows(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	variables := regexp.MustCompile(`-X (\S+)=`).FindAllSubmatch(makefile, -1)
	if len(variables) != 2 {
		t.Fatalf("the Makefile stamps %q, want version and commit", variables)
	}
	var flags, stamps []string
	for i, variable := range variables {
		stamp := "stamp" + string(rune('A'+i))
		stamps = append(stamps, stamp)
		flags = append(flags, "-X "+string(variable[1])+"="+stamp)
	}
	binary := filepath.Join(t.TempDir(), module)
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", strings.Join(flags, " "), "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	said, err := exec.Command(binary, "version").CombinedOutput()
	if err != nil {
		t.Fatalf("version: %v\n%s", err, said)
	}
	for _, stamp := range stamps {
		if !strings.Contains(string(said), stamp) {
			t.Errorf("version says %q, want %s in it", said, stamp)
		}
	}
}

func TestAReleaseIsStaticAndTheSameBytesFromAnyFolder(t *testing.T) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if out, err := exec.Command("make", "release-check", "PLATFORMS="+platform, "VERSION=v1.2.3", "COMMIT=abc").CombinedOutput(); err != nil {
		t.Fatalf("make release-check: %v\n%s", err, out)
	}
	dist := t.TempDir()
	if out, err := exec.Command("make", "release", "DIST="+dist, "PLATFORMS="+platform, "VERSION=v1.2.3", "COMMIT=abc").CombinedOutput(); err != nil {
		t.Fatalf("make release: %v\n%s", err, out)
	}
	binary := filepath.Join(dist, "redis-janitor-"+strings.ReplaceAll(platform, "/", "-"))
	if said, err := exec.Command(binary, "version").CombinedOutput(); err != nil || !strings.HasPrefix(string(said), "redis-janitor v1.2.3 (commit abc, ") {
		t.Errorf("version says %q, %v", said, err)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(program, []byte(folder)) {
		t.Error("the binary names the folder that it was built in")
	}
	if runtime.GOOS != "linux" {
		return // which has a format of its own
	}
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 || slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("it is not static: it needs %q, %v", libraries, err)
	}
}

func TestGoreleaserBuildsWhatTheMakefileBuilds(t *testing.T) {
	text, err := os.ReadFile(".goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Version     int
		ProjectName string `yaml:"project_name"`
		Builds      []struct {
			Main, Binary                      string
			Env, Flags, LDFlags, GOOS, GOARCH []string
			ModTimestamp                      string `yaml:"mod_timestamp"`
		}
		Archives []struct {
			Formats      []string
			NameTemplate string `yaml:"name_template"`
			Files        []string
			BuildsInfo   struct{ MTime string } `yaml:"builds_info"`
		}
		Checksum struct {
			NameTemplate string `yaml:"name_template"`
			Algorithm    string
		}
		Changelog struct{ Disable bool }
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`(?s)BUILD = CGO_ENABLED=0 \S+ build -trimpath \\\s+-ldflags '([^']+)'`).FindSubmatch(makefile)
	if flags == nil {
		t.Fatal("the Makefile builds in another way")
	}
	b := file.Builds[0]
	want := strings.NewReplacer("$(VERSION)", "{{ .Tag }}", "$(COMMIT)", "{{ .FullCommit }}").Replace(string(flags[1]))
	if len(b.LDFlags) != 1 || b.LDFlags[0] != want || !slices.Contains(b.Flags, "-trimpath") || !slices.Contains(b.Env, "CGO_ENABLED=0") {
		t.Errorf("goreleaser builds with %q, want %q", b.LDFlags, want)
	}
	var platforms []string
	for _, system := range b.GOOS {
		for _, processor := range b.GOARCH {
			platforms = append(platforms, system+"/"+processor)
		}
	}
	if line := "PLATFORMS ?= " + strings.Join(platforms, " "); !strings.Contains(string(makefile), line+"\n") {
		t.Errorf("the Makefile does not say %s", line)
	}
	for _, glob := range file.Archives[0].Files {
		if found, err := filepath.Glob(glob); err != nil || len(found) == 0 {
			t.Errorf("there is no %s to be packed, %v", glob, err)
		}
	}
}
