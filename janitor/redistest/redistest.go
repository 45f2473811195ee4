// Package redistest starts private redis-server processes for tests: each on a free loopback port, with a folder of its
// own, gone when the test is over and also when the test binary is killed. A test that needs Redis fails where there is
// none: a skipped test would look like a passed one.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// readyWithin bounds every wait for a server to come up, go away or reach a state. It only ends tests that would fail
// anyway, so it is long enough for a machine that is busy with other tests.
const readyWithin = 30 * time.Second

// Server is one private redis-server.
type Server struct {
	Addr     string // host:port of the plain port
	Port     int
	Dir      string // its working folder: dumps, logs, certificates
	Sock     string // path of its unix socket
	Password string // as given with --requirepass, else empty

	TLSAddr           string // host:port of the TLS port; empty unless started by StartTLS
	CACert, Cert, Key string // PEM files: the CA, and a client's certificate and key signed by it

	tb      testing.TB
	args    []string
	tlsPort int
	conf    string // a sentinel's configuration file, which it rewrites; empty for other servers
	proc    *process
}

// Start starts a redis-server without persistence. args are redis-server's own ("--maxmemory", "1mb") and win over the
// defaults; the ports are Start's to choose.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := newServer(t, args)
	s.startOnFreePort(t)
	return s
}

// newServer makes the folder and plans the end; nothing runs yet.
func newServer(t testing.TB, args []string) *Server {
	t.Helper()
	// Not t.TempDir: its name holds the test's, and a unix socket's path may have 103 bytes at most.
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatalf("making a folder for redis-server: %v", err)
	}
	s := &Server{Dir: dir, Sock: filepath.Join(dir, "redis.sock"), Password: argument(args, "--requirepass"), tb: t, args: args}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() && s.proc != nil {
			t.Logf("redis-server %s wrote:\n%s", s.Addr, s.logTail())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing redis-server's folder: %v", err)
		}
	})
	return s
}

// startOnFreePort starts s on a port nobody listens on. Between finding a port and using it another process may take
// it, so a clash means another port.
func (s *Server) startOnFreePort(t testing.TB) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		s.Port = freePort(t)
		s.Addr = loopback(s.Port)
		if s.Cert != "" {
			s.tlsPort = freePort(t)
			s.TLSAddr = loopback(s.tlsPort)
		}
		err := s.launch()
		if err == nil {
			return
		}
		if attempt == 10 || !errors.Is(err, errPortTaken) {
			t.Fatalf("starting redis-server: %v", err)
		}
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// freePort returns a loopback port which is free, and whose cluster bus port (10000 higher) is free as well.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("finding a free port: %v", err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		bus, err := net.Listen("tcp", loopback(port+10000))
		l.Close()
		if err == nil {
			bus.Close()
			return port
		}
	}
	t.Fatal("finding a free port: none of 1000 tried had a free cluster bus port above it")
	return 0
}

var (
	errPortTaken = errors.New("port is taken")
	errMissing   = errors.New("redis-server is not installed: apt-get install redis-server, apk add redis, dnf install redis or " +
		"brew install redis; `make test` does it where it can")
)

// launch starts the process on s.Port and waits until it serves.
func (s *Server) launch() error {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return errMissing
	}
	logFile, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	from, err := logFile.Seek(0, 2)
	if err != nil {
		return err
	}
	cmd := exec.Command(bin, s.arguments()...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, logFile, logFile
	proc, err := startProcess(cmd)
	if err != nil {
		return err
	}
	s.proc = proc
	if err := s.awaitReady(); err != nil {
		s.Kill()
		written, readErr := os.ReadFile(s.logPath())
		if readErr == nil && bytes.Contains(written[from:], []byte("Address already in use")) {
			return errPortTaken
		}
		return fmt.Errorf("%w; it wrote:\n%s", err, s.logTail())
	}
	return nil
}

func (s *Server) arguments() []string {
	common := []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(s.Port), "--dir", s.Dir, "--unixsocket", s.Sock, "--daemonize", "no"}
	if s.conf != "" {
		return append([]string{s.conf, "--sentinel"}, common...)
	}
	// A primary waits 5 s for more replicas before it sends its data: a test brings all it has at once.
	arguments := append(common, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
	if s.tlsPort != 0 {
		arguments = append(arguments, "--tls-port", strconv.Itoa(s.tlsPort), "--tls-ca-cert-file", s.CACert,
			"--tls-cert-file", filepath.Join(s.Dir, "server.crt"), "--tls-key-file", filepath.Join(s.Dir, "server.key"))
	}
	return append(arguments, s.args...)
}

// awaitReady waits for an answer that only our own process can give: another server may sit on the port we wanted. It
// waits for the data too, unless the server is to load them slowly.
func (s *Server) awaitReady() error {
	for heard := time.Now(); ; {
		ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
		answer, err := s.ask(ctx, "INFO")
		cancel()
		ours := strings.Contains(answer, fmt.Sprintf("process_id:%d\r\n", s.PID()))
		loaded := !strings.Contains(answer, "\r\nloading:1\r\n") || slices.Contains(s.args, "--key-load-delay")
		switch {
		case err == nil && ours && loaded:
			return nil
		case err != nil && isReply(err):
			return nil // NOAUTH or NOPERM: it serves, if not us; a LOADING server answers INFO
		case err == nil && ours:
			heard = time.Now() // it loads, and a large snapshot takes its time
		}
		select {
		case <-s.proc.done:
			return fmt.Errorf("redis-server ended at once: %w", s.proc.err)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Since(heard) > readyWithin {
			return fmt.Errorf("redis-server did not answer on %s within %s", s.Addr, readyWithin)
		}
	}
}

// URL is the plain port's address as `--url` takes it, for DB 0 and without a password.
func (s *Server) URL() string { return "redis://" + s.Addr + "/0" }

// Client is a plain client for DB 0 which neither retries nor introduces itself, closed when the test is over.
func (s *Server) Client() *redis.Client { return s.ClientDB(0) }

// ClientDB is Client for another database.
func (s *Server) ClientDB(db int) *redis.Client {
	c := redis.NewClient(&redis.Options{
		ReadTimeout: time.Minute, // a server on a busy disk answers when its append-only file is written
		Addr:        s.Addr, Password: s.Password, DB: db, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	s.tb.Cleanup(func() { c.Close() })
	return c
}

// PID is the process id of the running server, or of the last one that ran.
func (s *Server) PID() int { return s.proc.cmd.Process.Pid }

// Stop ends the server as SIGTERM does: it saves where it was told to.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server as `kill -9` does.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// end returns once the process is gone. A server that does not heed SIGTERM is killed.
func (s *Server) end(how syscall.Signal) {
	if s.proc == nil {
		return
	}
	s.proc.signal(how)
	s.proc.signal(syscall.SIGCONT) // a paused process only takes SIGTERM once it goes on
	select {
	case <-s.proc.done:
	case <-time.After(readyWithin):
		s.proc.signal(syscall.SIGKILL)
		<-s.proc.done
	}
}

// Restart ends the server as Stop does, if it still runs, and starts it again with the same ports, folder and arguments.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	for attempt := 1; ; attempt++ {
		err := s.launch()
		if err == nil {
			return
		}
		if attempt == 10 || !errors.Is(err, errPortTaken) {
			t.Fatalf("restarting redis-server on %s: %v", s.Addr, err)
		}
	}
}

// Pause freezes the server: connections stay open and nothing answers.
func (s *Server) Pause() { s.proc.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (s *Server) Resume() { s.proc.signal(syscall.SIGCONT) }

func (s *Server) logPath() string { return filepath.Join(s.Dir, "redis-server.log") }

func (s *Server) logTail() string {
	written, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(written)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// await polls until done says so, and fails the test with what is still missing when it does not within readyWithin.
func await(t testing.TB, what string, done func(context.Context) (missing string, err error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	missing, err := "", error(nil)
	for ctx.Err() == nil {
		// The last answer may be cut short by ctx itself; the one before tells more.
		if m, e := done(ctx); ctx.Err() == nil {
			missing, err = m, e
		}
		if missing == "" && err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waiting for %s: after %s: %s %v", what, readyWithin, missing, err)
}

// argument returns the value that follows name, the last one if there are several.
func argument(args []string, name string) string {
	value := ""
	for i, a := range args[:max(0, len(args)-1)] {
		if a == name {
			value = args[i+1]
		}
	}
	return value
}

// process is a started child with its end.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
	err  error         // how it ended, once done is closed
}

// startProcess starts cmd so that it dies with this process. Linux ties that to the thread which forked, so that thread
// does nothing else and lives as long as the child.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = dieWithParent()
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

// signal is a no-op for a process that is gone.
func (p *process) signal(sig syscall.Signal) {
	// Only ErrProcessDone can come back: the child is ours and is reaped by Wait alone.
	_ = p.cmd.Process.Signal(sig)
}
