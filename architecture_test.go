package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "redis-janitor"

// layers from the outermost in. Imports go inwards or stay within a layer; the innermost stand alone.
var layers = [][]string{{"main"}, {"cmd"}, {"janitor"}, {"patterns", "ttlpolicy"}}

// homes are the only places where a library may be known. What a package's tests use is their own affair.
var homes = []struct {
	library string
	allowed []string
}{
	{"github.com/redis/go-redis/", []string{"janitor/keyspace", "janitor/redistest", "janitor/bench"}},
	{"github.com/spf13/", []string{"cmd"}},
	{"github.com/charmbracelet/", []string{"cmd"}},
	{"github.com/prometheus/", []string{"cmd/metricsfile"}},
	{"go.yaml.in/", []string{"cmd"}},
}

// pkg is what `go list` tells of a package.
type pkg struct {
	ImportPath string
	Name       string
	Imports    []string
}

func TestImportsRunOneWay(t *testing.T) {
	for _, p := range packages(t) {
		for _, problem := range problems(p) {
			t.Error(problem)
		}
	}
}

func TestTheImportCheckSeesWhatIsForbidden(t *testing.T) {
	for _, p := range []pkg{
		{ImportPath: module, Imports: []string{module + "/janitor"}},
		{ImportPath: module + "/janitor", Imports: []string{module + "/cmd"}},
		{ImportPath: module + "/janitor/keyspace", Imports: []string{module}},
		{ImportPath: module + "/janitor", Imports: []string{"github.com/redis/go-redis/v9"}},
		{ImportPath: module + "/janitor", Imports: []string{module + "/janitor/redistest"}},
		{ImportPath: module + "/janitor/keyspaces", Imports: []string{"github.com/redis/go-redis/v9"}},
		{ImportPath: module + "/janitor", Imports: []string{"github.com/spf13/cobra"}},
		{ImportPath: module + "/janitor", Imports: []string{"go.yaml.in/yaml/v3"}},
		{ImportPath: module + "/patterns", Imports: []string{module + "/ttlpolicy"}},
		{ImportPath: module + "/patterns", Imports: []string{module + "/janitor"}},
		{ImportPath: module + "/ttlpolicy/units", Imports: []string{"golang.org/x/sys/unix"}},
		{ImportPath: module + "/internal/util", Name: "util"},
		{ImportPath: module + "/cmd/helpers", Name: "helpers"},
		{ImportPath: module + "/pkg/other", Name: "other"},
	} {
		if len(problems(p)) == 0 {
			t.Errorf("%s may import %v", p.ImportPath, p.Imports)
		}
	}
	for _, p := range []pkg{
		{ImportPath: module, Imports: []string{"os", module + "/cmd"}},
		{ImportPath: module + "/cmd", Imports: []string{module + "/cmd/view", module + "/janitor", module + "/ttlpolicy", "github.com/spf13/cobra"}},
		{ImportPath: module + "/janitor", Imports: []string{module + "/janitor/keyspace", module + "/patterns", "golang.org/x/sys/unix"}},
		{ImportPath: module + "/janitor/keyspace", Imports: []string{"github.com/redis/go-redis/v9/maintnotifications"}},
		{ImportPath: module + "/patterns", Imports: []string{"strings", "encoding/json"}},
	} {
		for _, problem := range problems(p) {
			t.Error(problem)
		}
	}
}

// problems says what is wrong with p's place, name and imports.
func problems(p pkg) []string {
	var found []string
	own := local(p.ImportPath)
	layer := layerOf(own)
	if layer < 0 {
		return []string{p.ImportPath + " is in none of the layers"}
	}
	if slices.Contains([]string{"util", "utils", "common", "helper", "helpers"}, p.Name) {
		found = append(found, p.ImportPath+": the name says nothing about what is inside")
	}
	for _, imported := range p.Imports {
		complain := func(why string) { found = append(found, p.ImportPath+" imports "+imported+": "+why) }
		if inside(imported, module) {
			target := local(imported)
			switch {
			case layerOf(target) < layer:
				complain("imports run main → cmd → janitor → patterns, ttlpolicy")
			case layer == 0 && layerOf(target) > 1:
				complain("main only starts cmd")
			case layer == len(layers)-1 && top(target) != top(own):
				complain("the innermost packages stand alone")
			case target == "janitor/redistest" && own != "janitor/bench":
				complain("it is for tests")
			}
			continue
		}
		host, _, _ := strings.Cut(imported, "/")
		if layer == len(layers)-1 && strings.Contains(host, ".") {
			complain("the innermost packages need the standard library only")
		}
		for _, home := range homes {
			isHome := func(dir string) bool { return inside(own, dir) }
			if strings.HasPrefix(imported, home.library) && !slices.ContainsFunc(home.allowed, isHome) {
				complain("only " + strings.Join(home.allowed, ", ") + " may")
			}
		}
	}
	return found
}

// local is a package's folder in the module, "main" for the root.
func local(importPath string) string {
	if importPath == module {
		return "main"
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func top(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	return first
}

func layerOf(dir string) int {
	return slices.IndexFunc(layers, func(layer []string) bool { return slices.Contains(layer, top(dir)) })
}

func inside(child, parent string) bool {
	return child == parent || strings.HasPrefix(child, parent+"/")
}

func packages(t *testing.T) []pkg {
	t.Helper()
	list := exec.Command("go", "list", "-json=ImportPath,Name,Imports", "./...")
	var complaints bytes.Buffer
	list.Stderr = &complaints
	out, err := list.Output()
	if err != nil {
		t.Fatalf("listing the packages: %v\n%s", err, &complaints)
	}
	var all []pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("listing the packages: %v", err)
		}
		all = append(all, p)
	}
}

// privatePath finds folders that exist on one machine only. A URL's path is none: a letter or a dot stands before it.
var privatePath = regexp.MustCompile(`(^|[^\w./-])/(home|Users|root|work)/\w`)

func TestNoFileNamesSomebodysFolders(t *testing.T) {
	if !privatePath.MatchString(path.Join("/", "home", "jane")) || privatePath.MatchString("https://example.org/home/jane") {
		t.Fatal("the pattern does not tell a folder from a URL")
	}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == ".git" {
				return fs.SkipDir
			}
			return nil
		}
		if entry.Name() == ".git" { // of a work tree beside the first one: it names where that is
			return nil
		}
		content, err := os.ReadFile(file)
		if err != nil || bytes.IndexByte(content, 0) >= 0 { // binaries: what was built and dumped here
			return err
		}
		for n, line := range bytes.Split(content, []byte("\n")) {
			if privatePath.Match(line) {
				t.Errorf("%s:%d: %s", file, n+1, line)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
