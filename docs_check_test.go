package main_test

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"redis-janitor/janitor/health"
)

func TestTheCheckPageNamesWhatChecksHold(t *testing.T) {
	p := pageOf(t, "docs/check.md")
	expectSame(t, p.file, keysOf(p.table(t, "## The JSON document")), jsonPaths(reflect.TypeFor[health.Report](), ""))
	row := p.table(t, "## The JSON document")["warnings[].code"][0]
	var named []string
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row, -1) {
		named = append(named, m[1])
	}
	var codes []string
	for file, source := range sources(t, false) {
		if !strings.HasPrefix(file, "janitor/health/") && file != "cmd/metrics.go" {
			continue
		}
		for _, m := range regexp.MustCompile(`\bwarn\((?:[^"\n]*|""), ?"([a-z_]+)"|\bwarn\("([a-z_]+)"`).FindAllStringSubmatch(source, -1) {
			codes = append(codes, m[1]+m[2])
		}
	}
	expectSame(t, p.file, named, codes)
}

// metricNames are the names that a text begins with redis_janitor_.
func metricNames(text string) []string {
	names := regexp.MustCompile(`\bredis_janitor_[a-z_]+`).FindAllString(text, -1)
	slices.Sort(names)
	return slices.Compact(names)
}

func TestTheMetricsPageNamesWhatTheProgramWrites(t *testing.T) {
	p := pageOf(t, "docs/metrics.md")
	var written []string
	labels := map[string]string{}
	for _, m := range regexp.MustCompile(`m\.(?:counter|gauge)\("([a-z_]+)", "[^"]*"((?:, "[a-z]+")*)\)`).FindAllStringSubmatch(sources(t, false)["cmd/metricsfile/vectors.go"], -1) {
		written = append(written, m[1])
		labels[m[1]] = strings.TrimPrefix(strings.ReplaceAll(m[2], `"`, ""), ", ")
	}
	rows := p.table(t, "# Metrics")
	expectSame(t, p.file, keysOf(rows), written)
	for name, columns := range rows {
		if got := strings.TrimSpace(columns[0]); got != labels[name] {
			t.Errorf("%s gives %s the labels %q, want %q", p.file, name, got, labels[name])
		}
	}
	for _, file := range []string{"docs/alerts.yml", "docs/dashboard.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricNames(string(text)) {
			if !slices.Contains(written, strings.TrimPrefix(name, "redis_janitor_")) {
				t.Errorf("%s asks for %s, which nobody writes", file, name)
			}
		}
	}
}

func TestTheAlertRulesAreComplete(t *testing.T) {
	text, err := os.ReadFile("docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			found++
			if rule.Alert == "" || len(metricNames(rule.Expr)) == 0 || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" {
				t.Errorf("incomplete: %+v", rule)
			}
			if strings.Count(rule.Expr, "(") != strings.Count(rule.Expr, ")") || strings.Count(rule.Expr, "{") != strings.Count(rule.Expr, "}") {
				t.Errorf("%s: unbalanced: %s", rule.Alert, rule.Expr)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d rules were found", found)
	}
}

func TestTheDashboardIsOne(t *testing.T) {
	text, err := os.ReadFile("docs/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
			GridPos struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, panel := range dashboard.Panels {
		if panel.Title == "" || len(panel.Targets) == 0 || seen[panel.ID] || panel.GridPos.X+panel.GridPos.W > 24 {
			t.Errorf("panel %+v", panel)
		}
		seen[panel.ID] = true
	}
	if dashboard.Title == "" || len(dashboard.Panels) < 5 {
		t.Errorf("%q has %d panels", dashboard.Title, len(dashboard.Panels))
	}
}
