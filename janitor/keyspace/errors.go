package keyspace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Kind sorts what a server, or the way to it, can refuse with: each is somebody else's to mend.
type Kind string

// The kinds of refusal. Their words are the contract's reasons.
const (
	OOM         Kind = "oom"
	Misconf     Kind = "misconf"
	NoReplicas  Kind = "noreplicas"
	ReadOnly    Kind = "readonly"
	NoPerm      Kind = "noperm"
	NoEval      Kind = "noeval"
	Auth        Kind = "auth"
	Unreachable Kind = "unreachable"
	Loading     Kind = "loading"
	BusyScript  Kind = "busy_script"
	NotRedis    Kind = "not_redis"
	TLS         Kind = "tls"
	MaxClients  Kind = "maxclients"
	BadDB       Kind = "db"
	Moved       Kind = "moved"
	NoCommand   Kind = "nocommand"
	NoScript    Kind = "noscript"
	WrongType   Kind = "wrongtype"
	ClusterDown Kind = "clusterdown"
	Stopped     Kind = "stopped"   // the caller's context ended
	Restarted   Kind = "restarted" // another server, or the same one restarted, answers now
	Other       Kind = "error"
)

// Error is a refusal or a failure: what was being done, where, of which kind, and what to do next.
type Error struct {
	Op   string // what was being done: "scan", "evict"
	Addr string // the server, without any password
	Kind Kind
	Hint string // what to do next; may be empty
	Sent bool   // the command may have reached the server: what it did is not known
	Err  error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s on %s: %v", e.Op, e.Addr, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf tells which kind of refusal an error is, Other where it is none of this package's.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Other
}

// hints say what to do next, for each kind of refusal.
func hint(kind Kind) string {
	switch kind {
	case OOM:
		return "Redis is out of memory and refuses even this; raise maxmemory for a moment, or delete a few large keys by hand"
	case Misconf:
		return "Redis could not save its last snapshot and refuses writes until it can: look for a full disk, or at its log (rdb_last_bgsave_status)"
	case NoReplicas:
		return "Redis wants more replicas than are connected (min-replicas-to-write): bring them back first"
	case ReadOnly:
		return "this server is a replica: give the primary's address (INFO replication names it)"
	case NoPerm:
		return "this Redis user lacks a permission: docs/acl.md has the rules that are needed"
	case NoEval:
		return "this server does not run Lua scripts, and without one a key that is refreshed at the wrong moment would be lost: allow EVALSHA and SCRIPT LOAD (docs/acl.md)"
	case Auth:
		return "give the right user and password: --user with --password-file, REDISCLI_AUTH, or in the URL"
	case Unreachable:
		return "check that Redis runs there, the address (--url or REDIS_URL), and the firewall between"
	case Loading:
		return "Redis is still loading its data: try again when it has (INFO persistence: loading_eta_seconds)"
	case BusyScript:
		return "someone's script holds the server: wait for it, or stop it with SCRIPT KILL"
	case NotRedis:
		return "something else than Redis answers there: check host and port"
	case TLS:
		return "use rediss:// for a TLS port and redis:// for a plain one, and --cacert for a private CA"
	case MaxClients:
		return "all of the server's connections are taken (maxclients): free some, or raise it"
	case BadDB:
		return "that database does not exist there: see the number at the end of the URL and the server's 'databases' setting"
	case NoCommand:
		return "this server does not know, or has renamed, a command that is needed: docs/compatibility.md"
	case ClusterDown:
		return "the cluster does not serve all of its slots: see CLUSTER INFO"
	case Restarted:
		return "the server was restarted or replaced while the janitor worked: run again"
	}
	return ""
}

// fail wraps err with what was being done and what it means. A nil err stays nil.
func fail(op, addr string, err error) error {
	if err == nil {
		return nil
	}
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	kind, sent := classify(err)
	return &Error{Op: op, Addr: addr, Kind: kind, Hint: hint(kind), Sent: sent, Err: err}
}

// classify tells a failure's kind, and whether the command may have been carried out all the same.
func classify(err error) (kind Kind, sent bool) {
	var answer redis.Error
	var forbidden *Forbidden
	var network net.Error
	var record tls.RecordHeaderError
	var unknownCA x509.UnknownAuthorityError
	var wrongHost x509.HostnameError
	var invalidCert x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	var alert tls.AlertError
	var dial *net.OpError
	switch {
	case errors.As(err, &answer) && !errors.Is(err, redis.ErrClosed):
		return classifyAnswer(answer.Error()), false
	case errors.As(err, &forbidden):
		return Other, false
	case errors.As(err, &record), errors.As(err, &unknownCA), errors.As(err, &wrongHost),
		errors.As(err, &invalidCert), errors.As(err, &verification), errors.As(err, &alert):
		return TLS, false
	case errors.As(err, &dial) && dial.Op == "dial":
		if errors.Is(err, context.Canceled) {
			return Stopped, false
		}
		return Unreachable, false
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrClosed):
		return Unreachable, false
	case errors.Is(err, context.Canceled):
		return Stopped, true
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return Unreachable, true
	}
	// What is left are answers that the client could not read as RESP.
	text := err.Error()
	if strings.Contains(text, "can't parse") || strings.Contains(text, "invalid reply") || strings.Contains(text, "redis: invalid") {
		return NotRedis, true
	}
	return Other, true
}

// codes are the words with which Redis begins an error reply (server.c, createSharedObjects;
// cluster.c, clusterRedirectClient).
var codes = map[string]Kind{
	"OOM": OOM, "MISCONF": Misconf, "NOREPLICAS": NoReplicas, "READONLY": ReadOnly,
	"NOPERM": NoPerm, "NOAUTH": Auth, "WRONGPASS": Auth, "DENIED": Auth,
	"LOADING": Loading, "MASTERDOWN": Loading, "BUSY": BusyScript, "NOSCRIPT": NoScript, "WRONGTYPE": WrongType,
	"MOVED": Moved, "ASK": Moved, "TRYAGAIN": Moved, "CROSSSLOT": Moved, "CLUSTERDOWN": ClusterDown,
}

// phrases tell apart the replies that begin with ERR and no more. The first that is found counts.
var phrases = []struct {
	text string
	kind Kind
}{
	{"max number of clients", MaxClients},
	{"db index", BadDB},
	{"select is not allowed in cluster mode", BadDB},
	{"the user executing the script can't", NoPerm}, // 6.2 and 7.0
	{"acl failure in script", NoPerm},               // 7.2
	{"unknown command", NoCommand},
	{"unknown subcommand", NoCommand},
	{"invalid password", Auth},
	{"without any password", Auth},
	{"http/", NotRedis},
}

// classifyAnswer reads the code word that Redis puts first in an error reply. Up to 6.2 an error
// inside a script has it further back: "ERR Error running script (call to f_…): @user_script:1:
// @user_script: 1: -OOM …"; and redis.pcall leaves "@user_script: 1: -OOM …" of that.
func classifyAnswer(text string) Kind {
	word, _, _ := strings.Cut(text, " ")
	if kind, ok := codes[word]; ok {
		return kind
	}
	if at := strings.LastIndex(text, "@user_script:"); at >= 0 && !strings.Contains(text, ", on @user_script:") {
		for word := range strings.FieldsSeq(text[at:]) {
			if kind, ok := codes[strings.TrimPrefix(word, "-")]; ok {
				return kind
			}
		}
	}
	lower := strings.ToLower(text)
	for _, phrase := range phrases {
		if strings.Contains(lower, phrase.text) {
			return phrase.kind
		}
	}
	return Other
}
