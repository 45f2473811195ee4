package keyspace

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by their SHA-1.
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// Mode says what a connection may send.
type Mode int

const (
	// Reading connections send only commands that read.
	Reading Mode = iota
	// Evicting connections may also run the scripts that take the lease and delete.
	Evicting
	// Preserving connections are evicting ones that may also run the script that reads whole values.
	Preserving
	// Restoring connections may send RESTORE besides what reads. They run no scripts.
	Restoring
	// inquiring connections only ask a sentinel where the primary is.
	inquiring
)

// Forbidden reports a command that is not on the allow-list of its connection. It never reached
// the wire: neither it, nor anything that was to be sent in one go with it.
type Forbidden struct {
	Command string
}

func (e *Forbidden) Error() string {
	return fmt.Sprintf("%q is not on this connection's allow-list and was not sent", e.Command)
}

// allowList is what one connection may send.
type allowList struct {
	commands map[string][]string // of which subcommands it must have one; nil for any argument
	digests  map[string]bool
}

func newAllowList(mode Mode) *allowList {
	if mode == inquiring {
		return &allowList{commands: map[string][]string{"HELLO": nil, "AUTH": nil, "CLIENT": {"SETNAME"}, "SENTINEL": {"GET-MASTER-ADDR-BY-NAME"}}}
	}
	list := &allowList{
		commands: map[string][]string{"CLIENT": {"SETNAME"}, "MEMORY": {"USAGE"}, "OBJECT": {"IDLETIME", "ENCODING"}, "CLUSTER": {"SLOTS"}, "ACL": {"WHOAMI", "DRYRUN"}},
		digests:  map[string]bool{},
	}
	for _, name := range []string{
		"HELLO", "AUTH", "SELECT", "PING", "INFO", "DBSIZE", "SCAN", "PTTL", "RANDOMKEY", "TYPE",
		"GET", "SCARD", "ZCARD", "HLEN", "LLEN", "PFCOUNT", "HGETALL",
	} {
		list.commands[name] = nil
	}
	for _, s := range scripts(mode) {
		list.digests[s.digest] = true
	}
	if mode == Restoring {
		list.commands["RESTORE"] = nil
	}
	return list
}

// permit returns a *Forbidden unless the command may be sent. Three arguments tell every command
// apart; count is how many it has.
func permit[T string | []byte](l *allowList, args []T, count int) error {
	name := strings.ToUpper(string(args[0]))
	if subcommands, ok := l.commands[name]; ok {
		if subcommands == nil || count > 1 && slices.Contains(subcommands, strings.ToUpper(string(args[1]))) {
			return nil
		}
	}
	switch {
	case name == "EVALSHA" && count > 1 && l.digests[string(args[1])]:
		return nil
	case name == "SCRIPT" && count == 3 && strings.EqualFold(string(args[1]), "LOAD"):
		sum := sha1.Sum([]byte(args[2])) //nolint:gosec // compared with the name that Redis gives it.
		if l.digests[hex.EncodeToString(sum[:])] {
			return nil
		}
	}
	return &Forbidden{Command: name[:min(len(name), 40)]}
}

// guardHook refuses commands before a connection is taken for them, a pipeline as a whole: the
// client sends a long one piece by piece, so that its first commands would be on their way when
// guardedConn sees the last. The check that counts is guardedConn's.
type guardHook struct{ allow *allowList }

func (h guardHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h guardHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := h.permit(cmd); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (h guardHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if err := h.permit(cmd); err != nil {
				for _, cmd := range cmds {
					cmd.SetErr(err)
				}
				return err
			}
		}
		return next(ctx, cmds)
	}
}

func (h guardHook) permit(cmd redis.Cmder) error {
	var first [3]string
	args := cmd.Args()
	for i := range min(len(args), len(first)) {
		switch word := args[i].(type) {
		case string:
			first[i] = word
		case []byte:
			first[i] = string(word)
		}
	}
	return permit(h.allow, first[:], len(args))
}

// guardedConn lets whole, permitted commands through to the server and nothing else. It sees the
// bytes that go to the socket, so that no client, hook, pipeline, retry or handshake gets past it.
type guardedConn struct {
	net.Conn
	allow *allowList

	mu       sync.Mutex
	tail     []byte // the beginning of a command whose end has not been written yet
	args     [][]byte
	count    int
	script   bool   // what changes the keyspace was written, and its answer has not been seen
	answered bool   // something was read since the last writing
	heard    bool   // something was read at all
	said     string // the last thing that was read, where it was an error
	broken   error
}

func guard(conn net.Conn, allow *allowList) net.Conn {
	guarded := &guardedConn{Conn: conn, allow: allow}
	if raw, ok := conn.(syscall.Conn); ok {
		return peekableConn{guarded, raw}
	}
	return guarded
}

// peekableConn lets the pool see, before it takes a connection again, whether the server has closed
// it in the meantime. TLS has nothing to be seen.
type peekableConn struct {
	*guardedConn
	syscall.Conn
}

// unsent is an error of a connection on which no script or RESTORE was under way, so nothing can have
// changed unseen. It has no Unwrap because the client takes one layer off the handshake's errors.
type unsent struct{ err error }

func (e unsent) Error() string        { return e.err.Error() }
func (e unsent) Is(target error) bool { return errors.Is(e.err, target) }
func (e unsent) As(target any) bool   { return errors.As(e.err, target) }

func (c *guardedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return 0, c.broken
	}
	data := p
	if len(c.tail) > 0 {
		c.tail = append(c.tail, p...)
		data = c.tail
	}
	if c.answered {
		c.script, c.answered = false, false
	}
	whole, script, err := c.check(data)
	if err != nil {
		// What follows a refused command belongs to a conversation that did not take place.
		c.broken = c.told(err)
		return 0, c.broken
	}
	if whole > 0 {
		n, err := c.Conn.Write(data[:whole])
		c.script = c.script || script && n > 0
		if err != nil {
			return 0, c.told(c.lastWord(err))
		}
	}
	c.tail = append(c.tail[:0], data[whole:]...)
	return len(p), nil
}

func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	var alien *stranger
	if err = c.hear(p[:n], err); errors.As(err, &alien) {
		n = 0 // nothing for the client to make something of
	}
	if err != nil {
		err = c.told(err)
	}
	return n, err
}

// lastWord looks for what a server said before it closed a new connection, which the error of
// writing to it does not tell: that there are too many, or which certificate it wants.
func (c *guardedConn) lastWord(err error) error {
	if c.heard {
		return err
	}
	// What there is has arrived before the end of the connection did.
	if deadlineErr := c.Conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); deadlineErr != nil {
		return err
	}
	data := make([]byte, 256)
	n, readErr := c.Conn.Read(data)
	var alert *net.OpError
	if errors.As(readErr, &alert) && alert.Op == "remote error" {
		return readErr
	}
	return c.hear(data[:n], err)
}

// hear takes notice of what was read.
func (c *guardedConn) hear(data []byte, err error) error {
	if len(data) == 0 {
		return err
	}
	first := !c.heard
	c.answered, c.heard, c.said = true, true, ""
	if data[0] == '-' {
		c.said, _, _ = strings.Cut(string(data[1:]), "\r\n")
	}
	if first && !strings.ContainsRune("+-:$*%~_#,(!=>|", rune(data[0])) {
		return &stranger{string(data[:min(len(data), 8)])}
	}
	return err
}

// told adds to an error of the connection what else is known of it: that no script was under way,
// and what the server had said before it hung up on us. The client takes a refused HELLO for a
// server that is too old to know it, and goes on until the connection breaks.
func (c *guardedConn) told(err error) error {
	var alien *stranger
	if kind := classifyAnswer(c.said); kind == MaxClients || strings.HasPrefix(c.said, "DENIED ") {
		err = &parting{c.said, err}
	} else if !c.heard && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.As(err, &alien) {
		err = &hangUp{err}
	}
	if c.script {
		return err
	}
	return unsent{err}
}

// check returns how many bytes of data are whole commands, all of which may be sent, and whether
// one of them runs a script.
func (c *guardedConn) check(data []byte) (whole int, script bool, err error) {
	for whole < len(data) {
		length, err := c.command(data[whole:])
		if err != nil {
			return 0, false, err
		}
		if length == 0 {
			break
		}
		if err := permit(c.allow, c.args, c.count); err != nil {
			return 0, false, err
		}
		script = script || bytes.EqualFold(c.args[0], []byte("EVALSHA")) || bytes.EqualFold(c.args[0], []byte("RESTORE"))
		whole += length
	}
	return whole, script, nil
}

var errNotACommand = errors.New("refused to send bytes that are not a Redis command")

// command reads one command, its first arguments into c.args, and returns its length in bytes, or
// 0 where its end is still to come. It takes nothing that Redis might read in another way.
func (c *guardedConn) command(data []byte) (length int, err error) {
	count, pos, err := header(data, 0, '*')
	if err != nil || pos == 0 {
		return 0, err
	}
	if count < 1 {
		return 0, errNotACommand
	}
	c.args, c.count = c.args[:0], count
	for range count {
		size, next, err := header(data, pos, '$')
		if err != nil || next == 0 {
			return 0, err
		}
		if size > len(data)-next-len("\r\n") {
			return 0, nil
		}
		pos = next + size + len("\r\n")
		if !bytes.Equal(data[pos-len("\r\n"):pos], []byte("\r\n")) {
			return 0, errNotACommand
		}
		if len(c.args) < 3 {
			c.args = append(c.args, data[next:next+size])
		}
	}
	return pos, nil
}

// header reads a line such as "*3\r\n" at pos and returns its number and where the line ends, or
// an end of 0 where the line is not complete.
func header(data []byte, pos int, kind byte) (number, end int, err error) {
	if pos >= len(data) {
		return 0, 0, nil
	}
	if data[pos] != kind {
		return 0, 0, errNotACommand
	}
	line := data[pos+1:]
	const longest = 10 // digits; Redis takes no string above 512 MB
	stop := bytes.IndexByte(line[:min(len(line), longest+1)], '\r')
	switch {
	case stop < 0 && len(line) <= longest, stop >= 0 && stop+1 == len(line):
		return 0, 0, nil
	case stop < 1 || line[stop+1] != '\n' || line[0] < '0' || line[0] > '9':
		return 0, 0, errNotACommand
	}
	if number, err = strconv.Atoi(string(line[:stop])); err != nil {
		return 0, 0, errNotACommand
	}
	return number, pos + 1 + stop + len("\r\n"), nil
}
