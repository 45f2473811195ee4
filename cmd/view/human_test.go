package view

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/charmbracelet/lipgloss"

	"redis-janitor/janitor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var samples = map[string]func() *janitor.Report{
	"plan": planned, "dry-run": dryRun, "execute": executed, "skipped": skipped,
	"refused": refused, "failed": failed, "nothing": nothing, "cluster": exhaustedCluster, "nodes": manyNodes, "explain": explained, "paused": paused,
}

// looks are the ways in which every sample is kept as a golden file.
var looks = map[string]Options{
	"80":         {Width: 80},
	"120":        {Width: 120},
	"80-color":   {Width: 80, Color: Always, Dark: true, Unicode: true},
	"120-color":  {Width: 120, Color: Always, Unicode: true},
	"80-verbose": {Width: 80, Unicode: true, Verbose: true},
}

func render(t *testing.T, opts Options, r *janitor.Report) string {
	t.Helper()
	var out bytes.Buffer
	opts.Out = &out
	if err := Human(opts).Report(r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("differs from %s from line %d on (rewrite it with -update once it is right):\n%s",
				path, i+1, strings.Join(gotLines[min(i, len(gotLines)):min(i+3, len(gotLines))], "\n"))
		}
	}
}

func TestReportsLookAsTheirGoldenFiles(t *testing.T) {
	for name, sample := range samples {
		for look, opts := range looks {
			t.Run(name+"-"+look, func(t *testing.T) {
				golden(t, name+"-"+look+".txt", render(t, opts, sample()))
			})
		}
	}
}

func TestTheQuestionShowsThePlanFirst(t *testing.T) {
	var out bytes.Buffer
	if err := ConfirmPrompt(Options{Out: &out, Quiet: true}, planned()); err != nil {
		t.Fatal(err)
	}
	golden(t, "confirm-80.txt", out.String())
}

func TestNoLineIsWiderThanTheTerminal(t *testing.T) {
	for name, sample := range samples {
		for _, width := range []int{30, 60, 79, 80, 120} {
			for _, opts := range []Options{{}, {Unicode: true, Verbose: true, Color: Always}} {
				opts.Width = width
				r := sample()
				for i := range r.Nodes {
					for j := range r.Nodes[i].Families {
						r.Nodes[i].Families[j].Name += strings.Repeat("-and-a-very-long-name", j)
					}
				}
				r.Message += strings.Repeat("x", 3*width) + " 漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字"
				for line := range strings.SplitSeq(render(t, opts, r), "\n") {
					if got := lipgloss.Width(line); got > width {
						t.Errorf("%s at %d: a line of %d columns: %q", name, width, got, line)
					}
				}
			}
		}
	}
}

func TestCountsThatDoNotFitAreRoundedRatherThanCutOff(t *testing.T) {
	r := dryRun()
	for i := range r.Nodes[0].Families {
		f := &r.Nodes[0].Families[i]
		f.Matched, f.Eligible, f.Evicted = f.Matched*100_000, f.Eligible*100_000, f.Evicted*100_000
	}
	if text := render(t, Options{Width: 80}, r); !strings.Contains(text, "  ml-results    81.2G     81.0G        43.3G    ~1.72 GB  older than 47m\n") {
		t.Errorf("at 80 columns:\n%s", text)
	}
	if text := render(t, Options{Width: 120}, r); !strings.Contains(text, "  ml-results  81,240,000,000  81,001,200,000  43,323,000,000    ~1.72 GB  older than 47m\n") {
		t.Errorf("at 120 columns:\n%s", text)
	}
}

func TestWithoutColourThereIsNoEscapeByte(t *testing.T) {
	for name, sample := range samples {
		for _, opts := range []Options{{}, {Unicode: true, Verbose: true, Dark: true}, {Color: Auto, Environ: []string{"TERM=dumb"}},
			{Color: Auto, Environ: []string{"TERM=xterm-256color", "NO_COLOR=1"}}} {
			if text := render(t, opts, sample()); strings.Contains(text, "\x1b") {
				t.Errorf("%s, %+v: an escape byte: %q", name, opts, text)
			}
		}
	}
}

func TestWithoutUnicodeEverythingIsASCII(t *testing.T) {
	for name, sample := range samples {
		r := sample()
		r.Message += " lifetime − remaining ≥ 2 × …"
		for _, c := range []byte(render(t, Options{}, r)) {
			if c > '~' {
				t.Fatalf("%s: byte %#x", name, c)
			}
		}
	}
}

func TestColourOnlyRepeatsWhatIsThereInWords(t *testing.T) {
	for name, sample := range samples {
		for _, width := range []int{80, 120} {
			plain := render(t, Options{Width: width, Unicode: true}, sample())
			colour := render(t, Options{Width: width, Unicode: true, Color: Always}, sample())
			if plain == colour {
				t.Errorf("%s: no colour at all", name)
			}
			if got := stripped(colour); got != plain {
				t.Errorf("%s: without its colours it reads\n%s\nrather than\n%s", name, got, plain)
			}
		}
	}
}

// stripped takes the colours out, and the spaces that only were there to carry one.
func stripped(text string) string {
	var b strings.Builder
	for i, part := range strings.Split(text, "\x1b[") {
		if i > 0 {
			part = part[strings.IndexByte(part, 'm')+1:]
		}
		b.WriteString(part)
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestTheTerminalsOwnColoursAreUsedUnderAuto(t *testing.T) {
	if text := render(t, Options{Color: Auto, Environ: []string{"TERM=xterm-256color"}}, executed()); !strings.Contains(text, "\x1b[38;5;") {
		t.Error("no colour of 256")
	}
	if text := render(t, Options{Color: Auto, Environ: []string{"TERM=linux"}}, executed()); strings.Contains(text, "38;5;") || !strings.Contains(text, "\x1b[") {
		t.Error("a terminal of 16 colours wants those")
	}
}

// hostile acts on a terminal: a title, a clear screen, a C1 control, a reversed direction, a bare
// byte, a carriage return.
const hostile = "\x1b]0;owned\a\x1b[2J\u009b31m\u202e\xff\rok\n\x7f"

func TestHostileStringsComeOutQuoted(t *testing.T) {
	for _, color := range []ColorMode{Never, Always} {
		r := planned()
		r.Warnings = append(r.Warnings, janitor.Warning{Code: "unknown", Message: "key " + hostile})
		text := stripped(render(t, Options{Color: color, Unicode: true, Width: 200}, r))
		want := `key \x1b]0;owned\a\x1b[2J\xc2\x9b31m\xe2\x80\xae\xff\rok\n\x7f`
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing from\n%s", want, text)
		}
	}
}

func TestNoStringOfAReportReachesTheTerminalRaw(t *testing.T) {
	for name, sample := range samples {
		r := sample()
		fill(reflect.ValueOf(r).Elem())
		var confirm bytes.Buffer
		if err := ConfirmPrompt(Options{Out: &confirm, Verbose: true, Unicode: true}, r); err != nil {
			t.Fatal(err)
		}
		r.ExitCode = 1
		quiet := render(t, Options{Quiet: true, Unicode: true}, r)
		for _, text := range []string{confirm.String(), quiet} {
			if strings.ContainsAny(text, "\x1b\a\r\x7f\u009b\u202e") || strings.Contains(text, "\xff") {
				t.Errorf("%s: a raw control character in %q", name, text)
			}
		}
	}
}

// fill appends the hostile string to every string of a report, but to Command, which chooses the view.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); s != "plan" && s != "dry-run" {
			v.SetString(s + hostile)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	}
}

func TestAReportIsNotChangedByBeingShown(t *testing.T) {
	r, same := planned(), planned()
	fill(reflect.ValueOf(r).Elem())
	fill(reflect.ValueOf(same).Elem())
	render(t, Options{}, r)
	if !reflect.DeepEqual(r, same) {
		t.Error("the report itself was escaped: JSON would now show that")
	}
}

func TestQuietSaysNothingOnSuccessAndOneLineOtherwise(t *testing.T) {
	for name, sample := range samples {
		r := sample()
		text := render(t, Options{Quiet: true}, r)
		if r.ExitCode == 0 && text != "" {
			t.Errorf("%s: exit code 0, and still %q", name, text)
		}
		if r.ExitCode != 0 && (strings.Count(text, "\n") != 1 || !strings.Contains(text, r.Message) || !strings.Contains(text, string(r.Reason))) {
			t.Errorf("%s: %q is not one line with message and reason", name, text)
		}
	}
}

func TestEveryReportSaysItsMessageLevelServerPolicyAndReason(t *testing.T) {
	for name, sample := range samples {
		r := sample()
		text := strings.Join(strings.Fields(render(t, Options{}, r)), " ")
		level := "Level " + r.Level.String()
		if len(r.Nodes) == 0 {
			level = "Level not measured"
		}
		wanted := []string{r.Message, level, r.Policy.Name, string(r.Reason), "exit " + strconv.Itoa(r.ExitCode)}
		for _, node := range r.Nodes {
			wanted = append(wanted, node.Addr)
			if len(r.Nodes) <= fewNodes {
				wanted = append(wanted, node.Server, "4.80 GB", "6.00 GB", "6.80 GB", "target 4.40 GB")
			}
		}
		for _, w := range r.Warnings {
			wanted = append(wanted, w.Code, w.Message)
		}
		for _, want := range append(wanted, r.Hint) {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing from\n%s", name, want, text)
			}
		}
	}
}

func TestWhatIsEstimatedSaysSo(t *testing.T) {
	for _, sample := range []func() *janitor.Report{planned, dryRun} {
		text := render(t, Options{}, sample())
		for _, want := range []string{"nothing was deleted", "estimate)", "~1.72 GB", "Would evict", "Would free", "marks estimates"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing from\n%s", want, text)
			}
		}
	}
	if text := render(t, Options{}, executed()); strings.Contains(text, "estimate") || strings.Contains(text, "~") {
		t.Error("an execute speaks of estimates")
	}
}

func TestEveryReasonOfTheJanitorThatEndsARunEarlyHasAdvice(t *testing.T) {
	for _, reason := range []janitor.Reason{janitor.Busy, janitor.Cooldown, janitor.LeaseHeld, janitor.LeaseLost, janitor.Paused, janitor.Exhausted,
		janitor.MaxKeys, janitor.MaxBytes, janitor.Deadline, janitor.Interrupted, janitor.Guard, janitor.Drift, janitor.Replica, janitor.NodeDown,
		janitor.Usage, janitor.BadPolicy} {
		if len(advice(&janitor.Report{Reason: reason})) == 0 {
			t.Errorf("%s leaves the operator alone", reason)
		}
	}
	if got := advice(&janitor.Report{Reason: janitor.Busy, Hint: "this"}); len(got) != 1 || got[0] != "this" {
		t.Errorf("the run's own hint gave way to %q", got)
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.New("closed pipe") }

func TestAClosedOutputIsAnError(t *testing.T) {
	if err := Human(Options{Out: closed{}}).Report(executed()); err == nil || !strings.Contains(err.Error(), "closed pipe") {
		t.Errorf("human: %v", err)
	}
	if err := JSON(closed{}, executed()); err == nil || !strings.Contains(err.Error(), "closed pipe") {
		t.Errorf("JSON: %v", err)
	}
}
