package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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
