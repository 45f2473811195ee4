package cmd_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"

	"redis-janitor/janitor/redistest"
)

// secret is every password in the scripts. No run may print it, whatever happens.
const secret = "s3kret-Pa55"

// TestScripts runs testdata/scripts on the program as it is shipped. Besides testscript's own commands they have:
//
//	redis NAME [ARG...]         start a server; $NAME is its URL, $NAME_ADDR its host:port
//	redis-tls NAME              start one with a TLS port: $NAME, $NAME_TLS, $NAME_CA, $NAME_CERT, $NAME_KEY
//	replica NAME OF             start a replica of another one
//	other NAME http|silence     start something else than Redis: $NAME is its URL
//	do NAME COMMAND [ARG...]    have a server carry out a command, and print its answer
//	stop NAME                   end a server
//	fill NAME PREFIX COUNT TTL  plant strings; a TTL of 0s is none
//	janitor CODE [ARG...]       run the program, which must end with that exit code
//	unread CODE [ARG...]        the same, with a stdout that nobody reads any more
//	report [FIELD=VALUE...]     the last stdout must be one JSON report; warnings=CODE must be among its own
func TestScripts(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "redis-janitor")
	arguments := []string{"build", "-o", bin}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		arguments = append(arguments, "-race")
	}
	if out, err := exec.Command("go", append(arguments, "redis-janitor")...).CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "testdata", "scripts"),

		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(bin)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("SECRET", secret)
			env.Setenv("DEAD", "redis://"+deadAddr(env.T().(testing.TB))+"/0")
			env.Values[stageKey{}] = &stage{tb: env.T().(testing.TB), servers: map[string]*redistest.Server{}}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"redis": startRedis, "redis-tls": startTLS, "replica": startReplica, "other": startOther,
			"do": doCommand, "stop": stopServer, "fill": fillServer, "janitor": runJanitor, "unread": runUnread, "report": checkReport,
		},
	})
}

type stageKey struct{}

// stage is what one script has set up.
type stage struct {
	tb      testing.TB
	servers map[string]*redistest.Server
}

func on(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func (s *stage) server(ts *testscript.TestScript, name string) *redistest.Server {
	server := s.servers[name]
	if server == nil {
		ts.Fatalf("there is no server %s", name)
	}
	return server
}

func (s *stage) add(ts *testscript.TestScript, name string, server *redistest.Server) {
	s.servers[name] = server
	ts.Setenv(name, server.URL())
	ts.Setenv(name+"_ADDR", server.Addr)
}

// want ends a script that calls a command wrongly.
func want(ts *testscript.TestScript, neg bool, args []string, least int, usage string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

func startRedis(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 1, "redis NAME [ARG...]")
	s := on(ts)
	s.add(ts, args[0], redistest.Start(s.tb, args[1:]...))
}

func startTLS(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 1, "redis-tls NAME")
	s := on(ts)
	server := redistest.StartTLS(s.tb)
	s.add(ts, args[0], server)
	ts.Setenv(args[0]+"_TLS", "rediss://"+server.TLSAddr+"/0")
	ts.Setenv(args[0]+"_CA", server.CACert)
	ts.Setenv(args[0]+"_CERT", server.Cert)
	ts.Setenv(args[0]+"_KEY", server.Key)
}

func startReplica(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "replica NAME OF")
	s := on(ts)
	s.add(ts, args[0], redistest.StartReplica(s.tb, s.server(ts, args[1])))
}

// deadAddr is an address at which nobody listens.
func deadAddr(tb testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startOther starts a web server, which refuses every line it gets, or a server that says nothing.
func startOther(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "other NAME http|silence")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], "redis://"+l.Addr().String()+"/0")
	speaks := args[1] == "http"
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if speaks {
						fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
						return
					}
				}
			}()
		}
	}()
}

func doCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "do NAME COMMAND [ARG...]")
	command := make([]any, len(args)-1)
	for i, arg := range args[1:] {
		command[i] = arg
	}
	s := on(ts)
	answer, err := s.server(ts, args[0]).Client().Do(s.tb.Context(), command...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		ts.Fatalf("%v: %v", command, err)
	}
	fmt.Fprintln(ts.Stdout(), answer)
}

func stopServer(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 1, "stop NAME")
	on(ts).server(ts, args[0]).Stop()
}

func fillServer(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 4, "fill NAME PREFIX COUNT TTL")
	count, err := strconv.Atoi(args[2])
	ts.Check(err)
	ttl, err := time.ParseDuration(args[3])
	ts.Check(err)
	s := on(ts)
	_, err = s.server(ts, args[0]).Client().Pipelined(s.tb.Context(), func(p redis.Pipeliner) error {
		for i := range count {
			p.Set(s.tb.Context(), args[1]+strconv.Itoa(i), strings.Repeat("v", 200), ttl)
		}
		return nil
	})
	ts.Check(err)
}

func runJanitor(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 1, "janitor CODE [ARG...]")
	err := ts.Exec("redis-janitor", args[1:]...)
	checkEnd(ts, args[0], err, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
}

// checkEnd holds a run to its exit code and to what no run may do.
func checkEnd(ts *testscript.TestScript, code string, err error, stdout, stderr string) {
	got := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		got = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != code {
		ts.Fatalf("exit code %d, want %s", got, code)
	}
	for _, output := range []string{stdout, stderr} {
		if strings.Contains(output, secret) {
			ts.Fatalf("the password was printed:\n%s", output)
		}
		if strings.Contains(output, "goroutine ") {
			ts.Fatalf("it crashed:\n%s", output)
		}
	}
}

func runUnread(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 1, "unread CODE [ARG...]")
	reader, writer, err := os.Pipe()
	ts.Check(err)
	ts.Check(reader.Close())
	defer writer.Close()
	var stderr strings.Builder
	cmd := exec.Command(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "redis-janitor"), args[1:]...)
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "TMPDIR=" + ts.Getenv("TMPDIR")}
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), writer, &stderr
	err = cmd.Run()
	fmt.Fprint(ts.Stderr(), stderr.String())
	checkEnd(ts, args[0], err, "", stderr.String())
}

func checkReport(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 0, "report [FIELD=VALUE...]")
	decoder := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var report map[string]any
	ts.Check(decoder.Decode(&report))
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("something follows the report")
	}
	if schema := report["schema"]; schema != "redis-janitor/report/v1" {
		ts.Fatalf("the schema is %v", schema)
	}
	for _, field := range []string{"command", "version", "started_at", "duration_ms", "outcome", "reason", "message", "exit_code", "level", "policy", "users", "nodes", "totals", "warnings"} {
		if _, there := report[field]; !there {
			ts.Fatalf("the report lacks %s", field)
		}
	}
	for _, arg := range args {
		field, value, _ := strings.Cut(arg, "=")
		if field == "warnings" {
			if codes := warningCodes(report); !slices.Contains(codes, value) {
				ts.Fatalf("the warnings are %v, want %s", codes, value)
			}
			continue
		}
		if got := fmt.Sprint(at(report, strings.Split(field, "."))); got != value {
			ts.Fatalf("%s is %s, want %s", field, got, value)
		}
	}
}

func warningCodes(report map[string]any) (codes []string) {
	for _, w := range report["warnings"].([]any) {
		codes = append(codes, fmt.Sprint(w.(map[string]any)["code"]))
	}
	return codes
}

// at finds a field by its path; a number picks from a list.
func at(value any, path []string) any {
	for _, name := range path {
		switch v := value.(type) {
		case map[string]any:
			value = v[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}
