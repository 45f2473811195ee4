package keyspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"unicode"

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
	NoPrimary   Kind = "no_primary"   // the sentinels know no primary of that name
	NotCluster  Kind = "not_cluster"  // a cluster was asked for, or what answers can't be told apart as one
	Stopped     Kind = "stopped"      // the caller's context ended
	Restarted   Kind = "restarted"    // another server, or the same one restarted, answers now
	DumpVersion Kind = "dump_version" // a value is in a format that this server doesn't read
	BadData     Kind = "bad_data"     // likewise, or of a type that it doesn't know
	Other       Kind = "error"
)

// Error is a refusal or a failure: what was being done, where, of which kind, and what to do next.
type Error struct {
	Op   string // what was being done: "scan", "evict"
	Addr string // the server, without any password
	Kind Kind
	Hint string // what to do next; may be empty
	Sent bool   // a script may have been run: what it did is not known
	Err  error
}

// Error leaves out what could do more to a terminal than print.
func (e *Error) Error() string {
	what := plain(e.Err.Error())
	var dialed *net.OpError
	if errors.As(e.Err, &dialed) && dialed.Op == "dial" {
		// Its text names the address again, twice, and the system call.
		cause := dialed.Err
		var call *os.SyscallError
		if errors.As(cause, &call) {
			cause = call.Err
		}
		what = "cannot connect: " + plain(cause.Error())
		if e.Op == "connect" {
			return fmt.Sprintf("cannot connect to %s: %s", e.Addr, plain(cause.Error()))
		}
	}
	return fmt.Sprintf("%s on %s: %s", e.Op, e.Addr, what)
}

// plain replaces what does not simply print in what somebody else has written.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
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

// hint says what to do next about a kind of refusal.
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
		return "use rediss:// for a TLS port and redis:// for a plain one, --cacert for a private CA, and --cert with --key where the server asks for a client's certificate"
	case MaxClients:
		return "all of the server's connections are taken (maxclients): free some, or raise it"
	case BadDB:
		return "that database does not exist there: see the number at the end of the URL and the server's 'databases' setting"
	case NoCommand:
		return "this server does not know, or has renamed, a command that is needed: docs/compatibility.md"
	case NoScript:
		return "the server forgets scripts as soon as it has been given them: is something flushing them (SCRIPT FLUSH), or is a proxy before several servers?"
	case WrongType:
		return "a key holds something of another type than is expected: see who writes it (redis-janitor:* are the janitor's own)"
	case ClusterDown:
		return "the cluster does not serve all of its slots: see CLUSTER INFO"
	case NoPrimary:
		return "see --master-name, and SENTINEL MASTERS on the sentinel"
	case NotCluster:
		return "for a single server leave --cluster out and give one --url; behind a proxy use the address that it has for clients without cluster support"
	case Moved:
		return "slots are being moved between the cluster's servers: run again when that is over; behind a proxy for a sharded database, use the address that speaks the cluster's protocol"
	case DumpVersion:
		return "DUMP's format differs from one major version of Redis to the next, and an older one reads no newer one's: restore into the version that the keys came from, or a newer one"
	case Restarted:
		return "the server was restarted or replaced while the janitor worked: run again"
	}
	return ""
}

// fail wraps err with what was being done and what it means. A nil err stays nil.
func fail(ctx context.Context, op, addr string, err error) error {
	if err == nil {
		return nil
	}
	var already *Error
	if errors.As(err, &already) {
		return already
	}
	kind, sent := classify(err)
	if kind == Unreachable && !sent && ctx.Err() != nil {
		kind = Stopped
	}
	if kind == NoCommand {
		// The server repeats what it was sent, and that may be a password.
		text, _, _ := strings.Cut(err.Error(), ", with args beginning with:")
		err = errors.New(text)
	}
	advice := hint(kind)
	var silent *hangUp
	if kind == Unreachable && errors.As(err, &silent) {
		advice = "this may be a TLS port (rediss://), a proxy without a server behind it, or a server that is going down"
	}
	return &Error{Op: op, Addr: addr, Kind: kind, Hint: advice, Sent: sent, Err: err}
}

// parting is a connection that the server closed after it had said why.
type parting struct {
	said string
	err  error
}

func (e *parting) Error() string { return e.said }
func (e *parting) Unwrap() error { return e.err }

// hangUp is a connection that the server closed before it had said a word.
type hangUp struct{ err error }

func (e *hangUp) Error() string { return "it hung up before it said a word: " + e.err.Error() }
func (e *hangUp) Unwrap() error { return e.err }

// stranger is something that does not speak RESP.
type stranger struct{ said string }

func (e *stranger) Error() string { return fmt.Sprintf("it answered %q, which no Redis does", e.said) }

// handshake is a TLS handshake that failed.
type handshake struct{ err error }

func (e *handshake) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshake) Unwrap() error { return e.err }

// tlsAlert begins what a TLS port answers to anything else (RFC 8446, 5.1).
const tlsAlert = 0x15

// classify tells a failure's kind, and whether a script may have been run all the same.
func classify(err error) (kind Kind, sent bool) {
	var answer redis.Error
	var forbidden *Forbidden
	var farewell *parting
	var secured *handshake
	var alien *stranger
	var operation *net.OpError
	var network net.Error
	var nothing unsent
	sent = !errors.As(err, &nothing)
	switch {
	case errors.As(err, &forbidden):
		return Other, false
	case errors.As(err, &farewell):
		return classifyAnswer(farewell.said), sent
	case errors.As(err, &alien):
		if alien.said[0] == tlsAlert {
			return TLS, sent
		}
		return NotRedis, sent
	case errors.As(err, &answer):
		return classifyAnswer(answer.Error()), false
	case errors.Is(err, context.Canceled):
		// The client looks at the context before it sends, and not again until the answer is there.
		return Stopped, false
	case errors.As(err, &secured):
		return TLS, false
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted), errors.Is(err, redis.ErrClosed),
		errors.Is(err, context.DeadlineExceeded):
		return Unreachable, false
	case errors.As(err, &operation) && (operation.Op == "remote error" || operation.Op == "local error"):
		return TLS, sent // crypto/tls: an alert, which may come after the handshake
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return Unreachable, sent
	}
	// What is left are answers that the client could not read as RESP.
	if strings.HasPrefix(err.Error(), "redis: ") {
		return NotRedis, sent
	}
	return Other, sent
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
	{"unknown redis command", NoCommand}, // what a script gets
	{"unknown subcommand", NoCommand},
	{"dump payload version or checksum are wrong", DumpVersion},
	{"bad data format", BadData},
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
