package janitor_test

import (
	"encoding/json"
	"strings"
	"testing"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

func TestAClusterIsEnteredByTLSWithItsServersOwnNames(t *testing.T) {
	cluster := redistest.StartTLSCluster(t, 3, "--requirepass", "s3cret", "--masterauth", "s3cret", "--cluster-require-full-coverage", "no")
	seed := cluster.Masters[0]
	port := seed.TLSAddr[strings.LastIndexByte(seed.TLSAddr, ':')+1:]
	secured := func(r *janitor.Request) {
		r.Connection.URLs = []string{"rediss://:s3cret@localhost:" + port}
		r.Connection.CACert, r.Connection.Cert, r.Connection.Key = seed.CACert, seed.Cert, seed.Key
		r.Connection.Password = ""
	}
	silent := func(r *janitor.Report) {
		t.Helper()
		document, err := json.Marshal(r)
		if err != nil || strings.Contains(string(document), "s3cret") {
			t.Errorf("the report tells the password: %s (%v)", document, err)
		}
	}
	for _, cmd := range []janitor.Command{janitor.Plan, janitor.Execute} {
		r := clean(t, seed, secured, command(cmd), atLevel(ttlpolicy.Force), noTarget)
		silent(r)
		if r.ExitCode != janitor.ExitDone || len(r.Nodes) != 3 {
			t.Errorf("%s: exit %d, %d rows: %s", cmd, r.ExitCode, len(r.Nodes), r.Message)
		}
		for i, n := range r.Nodes {
			if n.Addr != cluster.Masters[i].TLSAddr {
				t.Errorf("row %d is %s, and its TLS port is %s", i, n.Addr, cluster.Masters[i].TLSAddr)
			}
		}
	}
	named := func(name string) func(*janitor.Request) {
		return func(r *janitor.Request) { r.Connection.ServerName = name }
	}
	if r := clean(t, seed, secured, named("localhost")); r.ExitCode != janitor.ExitDone {
		t.Errorf("with a name that the certificates hold for: exit %d, %s", r.ExitCode, r.Message)
	}
	for what, change := range map[string]func(*janitor.Request){
		"a name that they don't hold for": named("cache.internal"),
		"another CA":                      func(r *janitor.Request) { r.Connection.CACert = redistest.StartTLS(t).CACert },
		"no certificate of its own":       func(r *janitor.Request) { r.Connection.Cert, r.Connection.Key = "", "" },
	} {
		r := clean(t, seed, secured, change)
		silent(r)
		if r.Reason != "tls" || r.ExitCode != janitor.ExitNoServer {
			t.Errorf("%s: %s, %s, exit %d: %s", what, r.Outcome, r.Reason, r.ExitCode, r.Message)
		}
	}
	wrong := clean(t, seed, secured, func(r *janitor.Request) {
		r.Connection.URLs = []string{"rediss://:s3cret2@localhost:" + port}
	})
	silent(wrong)
	expect(t, wrong, janitor.Refused, "auth", janitor.ExitNoServer)
	cluster.Masters[2].Kill()
	down := clean(t, seed, secured, atLevel(ttlpolicy.Force), noTarget)
	silent(down)
	expect(t, down, janitor.Incomplete, janitor.NodeDown, janitor.ExitIncomplete)
}
