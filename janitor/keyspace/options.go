package keyspace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options say where Redis is and what may be sent there.
type Options struct {
	URLs       []string // redis://, rediss:// or unix://; more than one are seeds of one cluster
	Cluster    bool     // refuse a server that is no part of a cluster
	Sentinels  []string // HOST:PORT; then MasterName names the primary
	MasterName string
	// SentinelPassword is the sentinels' own; they share none with the servers that they watch.
	SentinelPassword string
	Username         string // overrides the URL's
	Password         string // likewise
	Fallback         string // password where neither has one for the user
	CACert           string // PEM file; the system's roots where empty
	Cert, Key        string // PEM files of a client certificate
	ServerName       string // that the server's certificate must hold for; the host's where empty

	ConnectTimeout time.Duration
	CommandTimeout time.Duration

	Mode    Mode
	Workers int // connections that evict
}

// BadAddress reports a URL, a certificate or another option that can't be used. It never holds a password.
type BadAddress struct{ Msg string }

func (e *BadAddress) Error() string { return e.Msg }

// Check says what is wrong with the options, as far as that can be told without connecting. Errors are *BadAddress.
func (o Options) Check() error {
	_, _, err := o.doors()
	return err
}

// doors are the servers that the URLs name, or the sentinels that are to be asked for one; nil: none are.
func (o Options) doors() ([]target, *sentinels, error) {
	if (len(o.Sentinels) > 0) != (o.MasterName != "") {
		return nil, nil, &BadAddress{"--sentinel and --master-name go together"}
	}
	var doors []target
	for _, raw := range o.URLs {
		t, err := o.parseTarget(raw)
		if err != nil {
			return nil, nil, err
		}
		doors = append(doors, t)
	}
	switch {
	case len(doors) == 0:
		return nil, nil, &BadAddress{"give a --url"}
	case len(o.Sentinels) > 0:
		watched, err := o.watched(doors)
		return doors, watched, err
	}
	return doors, nil, nil
}

// target is one server as the options describe it.
type target struct {
	network  string
	addr     string
	db       int
	username string
	password string
	tls      *tls.Config
}

// parseTarget reads one URL. What it says of a bad one repeats nothing of it: a password with odd
// characters may turn up in any part.
func (o Options) parseTarget(raw string) (target, error) {
	bad := func(why string) (target, error) {
		return target{}, &BadAddress{"the Redis URL cannot be read: " + why +
			"; write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=N, and percent-encode what is special in user and password"}
	}
	parsed, err := url.Parse(raw)
	switch {
	case err != nil || parsed.Opaque != "":
		return bad("it is no URL")
	case parsed.Scheme != "redis" && parsed.Scheme != "rediss" && parsed.Scheme != "unix":
		return bad("it has none of the schemes redis, rediss and unix")
	case parsed.Port() != "" && !isPort(parsed.Port()):
		return bad("its port is none: ports are from 1 to 65535")
	case strings.Contains(raw, "#"):
		return bad("it holds a '#'")
	}
	options, err := redis.ParseURL(raw)
	if err != nil || options.DB < 0 {
		return bad("the path must be a database's number (a socket's path with unix), and what follows a '?' must be an option of the Redis client")
	}
	t := target{network: options.Network, addr: options.Addr, db: options.DB, username: options.Username, password: options.Password}
	theirs := o.Username != "" && t.username != "" && t.username != o.Username
	switch {
	case o.Password != "":
		t.password = o.Password
	case t.password == "" || theirs:
		t.password = o.Fallback
	}
	if o.Username != "" {
		t.username = o.Username
	}
	if theirs && t.password == "" {
		return target{}, &BadAddress{"the URL's password is for the URL's user, and --user is another: give that one's with --password-file or REDISCLI_AUTH"}
	}
	if t.username != "" && t.password == "" {
		// The client would log in as nobody, and so act as the default user, who may be allowed more.
		return target{}, &BadAddress{"a user is given and no password: add one with --password-file, REDISCLI_AUTH or in the URL (for a user without one, any will do)"}
	}
	if options.TLSConfig != nil {
		t.tls, err = o.tlsConfig(options.TLSConfig)
		if err != nil {
			return target{}, err
		}
	}
	return t, nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// tlsConfig adds certificates to what the URL said (the server's name, skip_verify).
func (o Options) tlsConfig(config *tls.Config) (*tls.Config, error) {
	if o.CACert != "" {
		pem, err := os.ReadFile(o.CACert)
		if err != nil {
			return nil, &BadAddress{fmt.Sprintf("the CA certificate cannot be read: %v", err)}
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &BadAddress{fmt.Sprintf("%s holds no PEM certificate", o.CACert)}
		}
	}
	if o.ServerName != "" {
		config.ServerName = o.ServerName
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, &BadAddress{"--cert and --key go together"}
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, &BadAddress{fmt.Sprintf("the client certificate cannot be read: %v", err)}
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// client makes a client whose every connection is guarded and greets the server first. It never
// retries on its own: a retried deletion whose first reply was lost would count 0.
func (o Options) client(t target, db, pool int, greet func(context.Context, *redis.Conn) error) *redis.Client {
	allow := newAllowList(o.Mode)
	client := redis.NewClient(&redis.Options{
		Network:  t.network,
		Addr:     t.addr,
		DB:       db,
		Username: t.username,
		Password: t.password,
		// RESP2 is spoken by everything that calls itself Redis, and nothing here needs more.
		Protocol:        2,
		DisableIdentity: true,
		OnConnect:       greet,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := o.dial(ctx, t, network, addr)
			if err != nil {
				return unreached{err}, nil //nolint:nilerr // the first use of this connection returns it.
			}
			return guard(conn, allow), nil
		},
		DialTimeout:           o.ConnectTimeout,
		ReadTimeout:           o.CommandTimeout,
		WriteTimeout:          o.CommandTimeout,
		ContextTimeoutEnabled: true,
		MaxRetries:            -1,
		PoolSize:              pool,
		MaxActiveConns:        pool,
		PipelinePoolSize:      -1, // pipelines take their turn with the rest
		PoolTimeout:           o.CommandTimeout,
	})
	client.AddHook(guardHook{allow})
	return client
}

func (o Options) dial(ctx context.Context, t target, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: o.ConnectTimeout}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil || t.tls == nil {
		return conn, err
	}
	secured := tls.Client(conn, t.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error is the one that matters
		return nil, &handshake{err}
	}
	return secured, nil
}

// unreached is a connection that could not be made. The pool gets it in the place of the error:
// after a few failed dials it would answer with the last error for up to a second without trying,
// and it would log each.
type unreached struct{ err error }

func (c unreached) Read([]byte) (int, error)         { return 0, unsent(c) }
func (c unreached) Write([]byte) (int, error)        { return 0, unsent(c) }
func (c unreached) Close() error                     { return nil }
func (c unreached) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (c unreached) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (c unreached) SetDeadline(time.Time) error      { return nil }
func (c unreached) SetReadDeadline(time.Time) error  { return nil }
func (c unreached) SetWriteDeadline(time.Time) error { return nil }
