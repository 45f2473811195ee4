package main

import (
	"strings"
	"testing"
)

func TestTablesLineUp(t *testing.T) {
	got := table([]string{"way", "s"}, [][]string{{"fast", "1.5"}, {"größer", "10"}})
	want := `| way    |   s |
|--------|----:|
| fast   | 1.5 |
| größer |  10 |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestARunOfOneScenarioLeavesTheOthersAlone(t *testing.T) {
	names := []string{"a", "b", "c"}
	part := func(name, text string) string { return section{name: name, title: name, text: text}.markdown("then") }
	old := merge("", "old preface\n", names, map[string]string{"a": part("a", "first"), "c": part("c", "third")})
	got := merge(old, "preface\n", names, map[string]string{"b": part("b", "second")})
	want := "preface\n\n" + part("a", "first") + "\n" + part("b", "second") + "\n" + part("c", "third")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again := merge(got, "preface\n", names, map[string]string{"b": part("b", "anew")})
	if want := strings.Replace(want, "second", "anew", 1); again != want {
		t.Errorf("the second time: got\n%s\nwant\n%s", again, want)
	}
}

func TestAGoalThatIsNotMetSaysSo(t *testing.T) {
	text := section{name: "x", title: "X", text: "…", goals: []goal{
		atMost("low enough", spread{1.25, 1, 2}, 1.25), atMost("too high", spread{1.26, 1, 2}, 1.25),
		atLeast("high enough", spread{2, 1, 3}, 2), atLeast("too low", spread{1.99, 1, 3}, 2),
	}}.markdown("now")
	for what, met := range map[string]string{"low enough": " yes |", "too high": " **no** |", "high enough": " yes |", "too low": " **no** |"} {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "| "+what) && !strings.HasSuffix(line, met+"\n") {
				t.Errorf("%s: want it to end with %q", line, met)
			}
		}
		if !strings.Contains(text, what) {
			t.Errorf("%q is missing", what)
		}
	}
}
