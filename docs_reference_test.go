package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"redis-janitor/janitor"
)

// helpFlags are a command's flags by its own help.
func helpFlags(t *testing.T, bin, command string) []string {
	t.Helper()
	var flags []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(said(t, bin, command, "--help"), -1) {
		flags = append(flags, "--"+m[1])
	}
	return flags
}

func TestFlagsInThePagesAreTheProgramsOwn(t *testing.T) {
	bin := program(t)
	_, list, _ := strings.Cut(said(t, bin, "--help"), "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	var commands []string
	known := []string{"--version"} // which the program has without a command
	for line := range strings.Lines(list) {
		commands = append(commands, strings.Fields(line)[0])
	}
	for _, c := range commands {
		known = append(known, helpFlags(t, bin, c)...)
	}
	for _, p := range pages(t) {
		ours := strings.ReplaceAll(p.text, "redis-cli --scan", "redis-cli")
		for _, flag := range regexp.MustCompile(`(?:^|[^\w-])(--[a-z][a-z-]*)`).FindAllStringSubmatch(ours, -1) {
			if !slices.Contains(known, flag[1]) {
				t.Errorf("%s names %s, which no command has", p.file, flag[1])
			}
		}
	}
	reference := pageOf(t, "docs/commands.md")
	expectSame(t, reference.file, keysOf(reference.table(t, "# Commands and flags")), slices.DeleteFunc(commands, func(c string) bool { return c == "help" }))
	var connecting, evicting []string
	for _, heading := range regexp.MustCompile("(?m)^## .*: `plan`, `dry-run`, `execute`$").FindAllString(reference.text, -1) {
		connecting = append(connecting, keysOf(reference.table(t, heading))...)
	}
	restoring := keysOf(reference.table(t, "## Restoring"))
	for _, heading := range []string{"## Connection: `plan`, `dry-run`, `execute`", "## Output: `plan`, `dry-run`, `execute`"} {
		restoring = append(restoring, keysOf(reference.table(t, heading))...)
	}
	restoring = slices.DeleteFunc(restoring, func(f string) bool { return !strings.HasPrefix(f, "--") })
	expectSame(t, reference.file+" for restore", restoring, helpFlags(t, bin, "restore"))
	for _, c := range []string{"plan", "dry-run", "execute", "explain"} {
		evicting = slices.Clone(connecting)
		for flag, columns := range reference.table(t, "## Evicting") {
			if strings.Contains(columns[0], "`"+c+"`") {
				evicting = append(evicting, flag)
			}
		}
		long := slices.DeleteFunc(evicting, func(f string) bool { return !strings.HasPrefix(f, "--") })
		expectSame(t, reference.file+" for "+c, long, helpFlags(t, bin, c))
	}
}

func TestExitCodesInThePagesAreTheProgramsOwn(t *testing.T) {
	_, list, _ := strings.Cut(said(t, program(t), "--help"), "Exit codes:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	var codes []string
	for _, m := range regexp.MustCompile(`(?m)(?:^|  )(\d+) +\w`).FindAllStringSubmatch(list, -1) {
		codes = append(codes, m[1])
	}
	for _, file := range []string{"README.md", "docs/report.md"} {
		expectSame(t, file, keysOf(pageOf(t, file).table(t, "## Exit codes")), codes)
	}
}

// jsonPaths are the fields of a type as its JSON has them: nodes[].memory.used_bytes.
func jsonPaths(of reflect.Type, path string) []string {
	switch {
	case of.Kind() == reflect.Pointer:
		return jsonPaths(of.Elem(), path)
	case of.Kind() == reflect.Slice:
		return jsonPaths(of.Elem(), path+"[]")
	case of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]():
		return []string{path}
	}
	var paths []string
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if of.Field(i).Anonymous {
			paths = append(paths, jsonPaths(of.Field(i).Type, path)...)
			continue
		}
		paths = append(paths, jsonPaths(of.Field(i).Type, strings.TrimPrefix(path+"."+name, "."))...)
	}
	return paths
}

func TestTheReportPageNamesWhatReportsHold(t *testing.T) {
	p := pageOf(t, "docs/report.md")
	expectSame(t, p.file, keysOf(p.table(t, "## Fields")), jsonPaths(reflect.TypeFor[janitor.Report](), ""))
	expectSame(t, "docs/policy.md", keysOf(pageOf(t, "docs/policy.md").table(t, "## Why a key was kept")), jsonPaths(reflect.TypeFor[janitor.Kept](), ""))

	words := map[string][]string{} // by type: constants, and conversions of literals
	var warnings []string
	for file, source := range sources(t, false) {
		if dir := filepath.Dir(file); dir != "janitor" && dir != "janitor/keyspace" && file != "ttlpolicy/lint.go" {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if of, ok := n.Type.(*ast.Ident); ok && len(n.Values) == 1 {
					words[of.Name] = append(words[of.Name], literal(n.Values[0]))
				}
			case *ast.CallExpr:
				if of, ok := n.Fun.(*ast.Ident); ok && len(n.Args) == 1 && literal(n.Args[0]) != "" {
					words[of.Name] = append(words[of.Name], literal(n.Args[0]))
				}
				if method, ok := n.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "warn" && len(n.Args) > 3 && literal(n.Args[2]) != "" {
					warnings = append(warnings, literal(n.Args[2]))
				}
			case *ast.BasicLit:
				if text := literal(n); file == "ttlpolicy/lint.go" && regexp.MustCompile(`^[a-z]+(_[a-z]+)+$`).MatchString(text) {
					warnings = append(warnings, text)
				}
			}
			return true
		})
	}
	expectSame(t, p.file, keysOf(p.table(t, "## Outcomes")), words["Outcome"])
	expectSame(t, p.file, keysOf(p.table(t, "## Reasons")), append(words["Reason"], words["Kind"]...))
	expectSame(t, p.file, keysOf(p.table(t, "## Warnings")), warnings)
}

// literal is a string literal's value, "" for anything else.
func literal(n ast.Expr) string {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return text
}

// yamlPaths are a policy's scalar fields with their values.
func yamlPaths(n *yaml.Node, path string, into map[string]string) {
	switch {
	case n.Kind == yaml.DocumentNode:
		yamlPaths(n.Content[0], path, into)
	case n.Kind == yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			yamlPaths(n.Content[i+1], strings.TrimPrefix(path+"."+n.Content[i].Value, "."), into)
		}
	case n.Kind == yaml.SequenceNode && path == "families":
		into[path] = ""
		for _, c := range n.Content {
			yamlPaths(c, path+"[]", into)
		}
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		into[path] = "[]"
	default:
		into[path] = n.Value
	}
}

func TestThePolicyPageNamesEveryFieldWithItsDefault(t *testing.T) {
	bin, p := program(t), pageOf(t, "docs/policy.md")
	shown := func(policy string) map[string]string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
			t.Fatal(err)
		}
		var root yaml.Node
		if err := yaml.Unmarshal([]byte(said(t, bin, "plan", "--policy", file, "--policy-show")), &root); err != nil {
			t.Fatal(err)
		}
		fields := map[string]string{}
		yamlPaths(&root, "", fields)
		return fields
	}
	full := slices.IndexFunc(p.blocks, func(b block) bool { return b.comment == "file: every-field.yaml" })
	if full < 0 {
		t.Fatal("the policy with every field is missing")
	}
	// The program writes out every field that it knows, but for what is only written where it is used.
	all := shown(strings.Replace(p.blocks[full].text, "broad: false", "broad: true", 1))
	rows := p.table(t, "## Fields")
	expectSame(t, p.file, keysOf(rows), keysOf(all))
	var example yaml.Node
	if err := yaml.Unmarshal([]byte(p.blocks[full].text), &example); err != nil {
		t.Fatal(err)
	}
	inExample := map[string]string{}
	yamlPaths(&example, "", inExample)
	expectSame(t, "the example in "+p.file, keysOf(inExample), keysOf(all))
	for field, value := range shown("families: [{name: a, match: a:*, lifetime: 1h}]") {
		if is := strings.Trim(rows[field][0], "` "); is != value && is != "" {
			t.Errorf("%s: the default of %s is %q, not %q", p.file, field, value, is)
		}
	}
}
