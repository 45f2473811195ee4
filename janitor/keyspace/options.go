package keyspace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options say where Redis is and what may be sent there.
type Options struct {
	URLs       []string // redis://, rediss:// or unix://; more than one are seeds of one cluster
	Sentinels  []string // HOST:PORT; then MasterName names the primary
	MasterName string
	Username   string // overrides the URL's
	Password   string // used where the URL has none
	CACert     string // PEM file; the system's roots where empty
	Cert, Key  string // PEM files of a client certificate

	ConnectTimeout time.Duration
	CommandTimeout time.Duration

	Mode    Mode
	Workers int // connections that evict
}

// BadAddress reports a URL, a certificate or another option that can't be used. It never holds a password.
type BadAddress struct{ Msg string }

func (e *BadAddress) Error() string { return e.Msg }

// target is one server as the options describe it.
type target struct {
	network  string
	addr     string
	db       int
	username string
	password string
	tls      *tls.Config
}

// parseTarget reads one URL. What it says of a bad one never repeats the URL, which may hold a password.
func (o Options) parseTarget(raw string) (target, error) {
	scheme, _, found := strings.Cut(raw, "://")
	if !found {
		return target{}, &BadAddress{"the Redis URL has no scheme: write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=N"}
	}
	parsed, err := redis.ParseURL(raw)
	if err != nil {
		reason := err
		var inURL *url.Error
		if errors.As(err, &inURL) {
			reason = inURL.Err
		}
		return target{}, &BadAddress{fmt.Sprintf("the Redis URL (%s://…) cannot be read: %v; write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=N",
			printable(scheme), withoutSecrets(reason.Error(), raw))}
	}
	t := target{network: parsed.Network, addr: parsed.Addr, db: parsed.DB, username: parsed.Username, password: parsed.Password}
	if o.Username != "" {
		t.username = o.Username
	}
	if t.password == "" {
		t.password = o.Password
	}
	if parsed.TLSConfig != nil {
		t.tls, err = o.tlsConfig(parsed.TLSConfig.ServerName)
		if err != nil {
			return target{}, err
		}
	}
	return t, nil
}

// withoutSecrets drops a message that repeats any part of the user information of a URL.
func withoutSecrets(msg, raw string) string {
	_, rest, _ := strings.Cut(raw, "://")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		for _, part := range strings.FieldsFunc(rest[:at], func(r rune) bool { return r == ':' || r == '@' || r == '/' }) {
			if strings.Contains(msg, part) {
				return "its user or password holds characters that need percent-encoding"
			}
		}
	}
	return msg
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}

func (o Options) tlsConfig(serverName string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
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

// client makes a client whose every connection is guarded. It never retries on its own: a retried
// deletion whose first reply was lost would count 0.
func (o Options) client(t target, db, pool int) *redis.Client {
	allow := newAllowList(o.Mode)
	return redis.NewClient(&redis.Options{
		Network:  t.network,
		Addr:     t.addr,
		DB:       db,
		Username: t.username,
		Password: t.password,
		// RESP2 is spoken by everything that calls itself Redis, and nothing here needs more.
		Protocol:        2,
		ClientName:      "redis-janitor",
		DisableIdentity: true,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := o.dial(ctx, t, network, addr)
			if err != nil {
				return nil, err
			}
			return guard(conn, allow), nil
		},
		DialerRetries:         1,
		DialTimeout:           o.ConnectTimeout,
		ReadTimeout:           o.CommandTimeout,
		WriteTimeout:          o.CommandTimeout,
		ContextTimeoutEnabled: true,
		MaxRetries:            -1,
		PoolSize:              pool,
		MaxActiveConns:        pool,
		PoolTimeout:           o.CommandTimeout,
	})
}

func (o Options) dial(ctx context.Context, t target, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: o.ConnectTimeout}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil || t.tls == nil {
		return conn, err
	}
	config := t.tls.Clone()
	if config.ServerName == "" {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			config.ServerName = host
		}
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error is the one that matters
		return nil, err
	}
	return secured, nil
}
