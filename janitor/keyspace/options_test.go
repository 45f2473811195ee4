package keyspace

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"redis-janitor/janitor/redistest"
)

func TestAURLSaysWhereRedisIs(t *testing.T) {
	for _, c := range []struct {
		url                          string
		network, addr                string
		db                           int
		username, password, serverOf string
	}{
		{"redis://127.0.0.1:6380/3", "tcp", "127.0.0.1:6380", 3, "", "default", ""},
		{"redis://host", "tcp", "host:6379", 0, "", "default", ""},
		{"redis://[::1]:6380", "tcp", "[::1]:6380", 0, "", "default", ""},
		{"redis://user:p%40ss%2F%23@host/2", "tcp", "host:6379", 2, "user", "p@ss/#", ""},
		{"redis://:word@host?db=5&read_timeout=3s", "tcp", "host:6379", 5, "", "word", ""},
		{"rediss://u@host:7000", "tcp", "host:7000", 0, "u", "default", "host"},
		{"unix:///run/redis.sock?db=4", "unix", "/run/redis.sock", 4, "", "default", ""},
	} {
		o := Options{Fallback: "default"}
		got, err := o.parseTarget(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		server := ""
		if got.tls != nil {
			server = got.tls.ServerName
		}
		if got.network != c.network || got.addr != c.addr || got.db != c.db || got.username != c.username || got.password != c.password || server != c.serverOf {
			t.Errorf("%s is %+v", c.url, got)
		}
	}
}

func TestTheOptionsWinOverTheURLAndNoUserIsGivenAnothersPassword(t *testing.T) {
	for name, c := range map[string]struct {
		o                  Options
		url                string
		username, password string
	}{
		"the URL's":                             {Options{Fallback: "env"}, "redis://alice:x@host", "alice", "x"},
		"a password":                            {Options{Password: "file", Fallback: "env"}, "redis://alice:x@host", "alice", "file"},
		"a user and a password":                 {Options{Username: "bob", Password: "file", Fallback: "env"}, "redis://alice:x@host", "bob", "file"},
		"another user":                          {Options{Username: "bob", Fallback: "env"}, "redis://alice:x@host", "bob", "env"},
		"the same user":                         {Options{Username: "alice", Fallback: "env"}, "redis://alice:x@host", "alice", "x"},
		"a user, and a password of nobody's":    {Options{Username: "bob", Fallback: "env"}, "redis://:x@host", "bob", "x"},
		"a user, and no password in the URL":    {Options{Username: "bob", Fallback: "env"}, "redis://alice@host", "bob", "env"},
		"a password, and no user":               {Options{Password: "file"}, "redis://host", "", "file"},
		"a user's password where there is none": {Options{Username: "bob", Password: "file"}, "redis://host", "bob", "file"},
	} {
		if got, err := c.o.parseTarget(c.url); err != nil || got.username != c.username || got.password != c.password {
			t.Errorf("%s: %s with %s: %v", name, got.username, got.password, err)
		}
	}
	var bad *BadAddress
	if got, err := (Options{Username: "bob"}).parseTarget("redis://alice:x@host"); !errors.As(err, &bad) || !strings.Contains(err.Error(), "--password-file or REDISCLI_AUTH") {
		t.Errorf("bob is %+v: %v", got, err)
	}
}

func TestABadAddressIsRefusedWithoutBeingRepeated(t *testing.T) {
	for _, url := range []string{
		"", "host", "host:6379", "://host", "http://s3cret@host", "redis:host", "redis://:s3cret",
		"redis://:s3cret#x@host/0", "redis://:12#s3cret@host/0", "redis://:12?s3cret@host/0", "redis://user:12/s3cret@host/0",
		"redis://:12/s3cret", "redis://:%s3cret@host", "redis://:s3cret@host:port", "redis://:s3cret@host:65536", "redis://:s3cret@host:0", "rediss://:s3cret@host:99999/1", "redis://:s3cret@host/zero", "redis://:s3cret@host/-1",
		"redis://:s3cret@host/0/1", "redis://:s3cret@host?db=-3", "redis://:s3cret@host?s3cret=1", "redis://:s3cret@host?db=s3cret",
		"redis://:s3 cret@host", "redis://:s3cret\n@host", "redis://:s3cret\x00@host", "redis://[s3cret@host", "unix://", "unix://s3cret@", "redis://host/0#",
		"redis://s3cret@host", "redis://s3cret:@host", "rediss://s3cret@host:7000/1",
	} {
		_, err := Open(t.Context(), options(url, Reading))
		var bad *BadAddress
		if !errors.As(err, &bad) {
			t.Errorf("%q: %v, want a *BadAddress", url, err)
		} else if strings.Contains(err.Error(), "cret") || strings.Contains(err.Error(), "12") {
			t.Errorf("%q is repeated: %v", url, err)
		}
	}
}

func FuzzNoMessageTellsThePassword(f *testing.F) {
	for _, password := range []string{"word", "p@ss", "12/34", "12?34", "12#34", "a:b", "%zz", "[::1", "a b", "\x00", "é", "//", "@", "1/2@3#4?5"} {
		f.Add(password)
	}
	// Rare runes around the password, so that it cannot turn up by chance.
	f.Fuzz(func(t *testing.T, inner string) {
		password := "12ǿ" + inner + "ʬ"
		for _, url := range []string{"redis://:" + password + "@127.0.0.1:1/0", "rediss://u:" + password + "@127.0.0.1:1", "redis://:" + password, "redis://u:" + password + "/3"} {
			_, err := Options{}.parseTarget(url)
			if err != nil && (strings.ContainsAny(err.Error(), "ǿʬ") || strings.Contains(err.Error(), "12")) {
				t.Errorf("%q: %v", url, err)
			}
		}
	})
}

func TestCertificatesThatCannotBeUsedAreRefused(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.pem")
	if err := os.WriteFile(text, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"a CA that is not there":          {CACert: filepath.Join(dir, "missing.pem")},
		"a CA that is none":               {CACert: text},
		"a certificate without a key":     {Cert: text},
		"a key without a certificate":     {Key: text},
		"a certificate that is none":      {Cert: text, Key: text},
		"a certificate that is not there": {Cert: filepath.Join(dir, "missing.pem"), Key: text},
		"sentinels without a name":        {Sentinels: []string{"h:1"}},
		"a name without sentinels":        {MasterName: "m"},
		"a sentinel without a host":       {Sentinels: []string{":1"}, MasterName: "m"},
		"sentinels and a cluster":         {Sentinels: []string{"h:1"}, MasterName: "m", Cluster: true},
		"no seed":                         {URLs: []string{}},
	} {
		if o.URLs == nil {
			o.URLs = []string{"rediss://127.0.0.1:1"}
		}
		if _, err := Open(t.Context(), o); !errors.As(err, new(*BadAddress)) {
			t.Errorf("%s: %v, want a *BadAddress", name, err)
		}
	}
}

func TestEveryWayToAServerLeadsThere(t *testing.T) {
	s := redistest.StartTLS(t, "--requirepass", secret)
	do(t, s.ClientDB(3), cmd("set", "k", "v"))
	withCertificates := func(o *Options) { o.CACert, o.Cert, o.Key = s.CACert, s.Cert, s.Key }
	for url, change := range map[string]func(o *Options){
		"redis://:" + secret + "@" + s.Addr + "/3":                            func(*Options) {},
		"redis://" + s.Addr + "/3":                                            func(o *Options) { o.Password = secret },
		"redis://" + s.Addr + "/3?db=3":                                       func(o *Options) { o.Username, o.Password = "default", secret },
		"unix://:" + secret + "@" + s.Sock + "?db=3":                          func(*Options) {},
		"rediss://:" + secret + "@" + s.TLSAddr + "/3":                        withCertificates,
		"rediss://:" + secret + "@localhost:" + port(s) + "/3":                withCertificates,
		"rediss://:" + secret + "@0.0.0.0:" + port(s) + "/3?skip_verify=true": func(o *Options) { o.Cert, o.Key = s.Cert, s.Key },
	} {
		o := options(url, Evicting)
		change(&o)
		n := open(t, o)
		if size, err := n.Size(t.Context()); err != nil || size != 1 || n.DB() != 3 {
			t.Errorf("%s: %d keys in DB %d: %v", url, size, n.DB(), err)
		}
		if _, ours, err := n.TakeLease(t.Context(), url, "host", "since", time.Minute, false); err != nil || !ours {
			t.Errorf("%s: the lease is ours: %v, %v", url, ours, err)
		}
		if err := n.ReleaseLease(t.Context(), url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func port(s *redistest.Server) string { return s.TLSAddr[strings.LastIndexByte(s.TLSAddr, ':')+1:] }

func TestConnectionsStayWithinTheirNumber(t *testing.T) {
	s := redistest.Start(t)
	o := options(s.URL(), Evicting)
	o.Workers = 3
	n := open(t, o)
	done := make(chan error)
	const asking = 40
	for range asking {
		go func() {
			_, err := n.Facts(t.Context(), []string{"a", "b"}, Ask{})
			if err == nil {
				_, err = n.Size(t.Context())
			}
			done <- err
		}()
	}
	for range asking {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	list := s.Client().ClientList(t.Context()).Val()
	if named := strings.Count(list, "name=redis-janitor "); named < 1 || named > 6 {
		t.Errorf("there are %d connections of ours, want at most 6:\n%s", named, list)
	}
}

func TestWithoutTheRightToANameThereIsNone(t *testing.T) {
	s := redistest.Start(t, "--user", "u", "on", ">"+secret, "~*", "+@all", "-client")
	n := open(t, options("redis://u:"+secret+"@"+s.Addr, Reading))
	if _, err := n.Size(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheLibraryHasNothingToSayOfFailures(t *testing.T) {
	var mu sync.Mutex
	var told []string
	QuietLibrary(func(_ context.Context, format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf(format, args...))
	})
	t.Cleanup(func() {
		QuietLibrary(func(_ context.Context, format string, args ...any) { log.Printf(format, args...) })
	})
	for range 8 {
		_, err := Open(t.Context(), options("redis://:"+secret+"@"+deadAddr(t), Reading))
		refused(t, err, Unreachable)
	}
	w := startWork(t)
	w.s.Kill()
	w.proxy.Cut()
	for range 8 {
		_, err := w.n.Ping(t.Context())
		refused(t, err, Unreachable)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 0 {
		t.Errorf("it told %q", told)
	}
}
