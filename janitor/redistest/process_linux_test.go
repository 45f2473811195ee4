package redistest_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-janitor/janitor/redistest"
)

// waitToBeKilled makes this test binary a victim: it starts a server, prints its process id and waits.
const waitToBeKilled = "REDISTEST_WAIT_TO_BE_KILLED"

func TestAServerDiesWithAKilledTestBinary(t *testing.T) {
	if os.Getenv(waitToBeKilled) != "" {
		s := redistest.Start(t)
		fmt.Printf("pid %d dir %s\n", s.PID(), s.Dir)
		select {}
	}
	self := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	self.Env = append(os.Environ(), waitToBeKilled+"=1")
	out, err := self.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err := errors.Join(err, self.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(line)
	if len(words) != 4 {
		t.Fatalf("the victim said %q", line)
	}
	t.Cleanup(func() { os.RemoveAll(words[3]) })
	if err := self.Wait(); err == nil {
		t.Fatal("the victim ended well")
	}
	pid, err := strconv.Atoi(words[1])
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("redis-server %d outlived its test binary", pid)
		}
	}
}

// alive takes a zombie for dead: who reaps orphans is not up to us (in a container maybe nobody).
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ") && syscall.Kill(pid, 0) == nil
}
