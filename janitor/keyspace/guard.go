package keyspace

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // Redis names scripts by their SHA-1.
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Mode says what a connection may send.
type Mode int

const (
	// Reading connections send only commands that read.
	Reading Mode = iota
	// Evicting connections may also run the scripts that are part of this binary.
	Evicting
)

// Forbidden reports a command that is not on the allow-list of its connection. It never reached
// the wire: neither it, nor anything that was to be sent in one go with it.
type Forbidden struct {
	Command string
}

func (e *Forbidden) Error() string {
	return fmt.Sprintf("%s is not on this connection's allow-list and was not sent", e.Command)
}

// allowList is what one connection may send, by command and, where a command has kinds, by
// "COMMAND SUBCOMMAND". It is checked on the bytes that go to the socket, so that no client, hook,
// pipeline, retry or handshake can go past it.
type allowList struct {
	commands map[string]bool
	digests  map[string]bool
}

func newAllowList(mode Mode) *allowList {
	list := &allowList{commands: map[string]bool{}, digests: map[string]bool{}}
	for _, name := range []string{
		"HELLO", "AUTH", "SELECT", "PING", "CLIENT SETNAME",
		"INFO", "DBSIZE", "SCAN", "PTTL", "RANDOMKEY", "TYPE", "MEMORY USAGE", "OBJECT IDLETIME",
		"GET", "SCARD", "ZCARD", "HLEN", "LLEN", "PFCOUNT", "HGETALL",
		"CLUSTER SLOTS", "CLUSTER MYID", "SENTINEL GET-MASTER-ADDR-BY-NAME",
	} {
		list.commands[name] = true
	}
	if mode == Evicting {
		for _, s := range writingScripts() {
			list.digests[s.digest] = true
		}
	}
	return list
}

// permit returns a *Forbidden unless the command may be sent.
func (l *allowList) permit(args [][]byte) error {
	name := strings.ToUpper(string(args[0]))
	switch name {
	case "EVALSHA":
		if len(args) > 1 && l.digests[string(args[1])] {
			return nil
		}
	case "SCRIPT":
		if len(args) == 3 && strings.EqualFold(string(args[1]), "LOAD") {
			sum := sha1.Sum(args[2]) //nolint:gosec // compared with the name that Redis gives it.
			if l.digests[hex.EncodeToString(sum[:])] {
				return nil
			}
		}
		name = "SCRIPT"
	default:
		if l.commands[name] {
			return nil
		}
		if len(args) > 1 {
			name += " " + strings.ToUpper(string(args[1]))
			if l.commands[name] {
				return nil
			}
			name = strings.ToUpper(string(args[0]))
		}
	}
	return &Forbidden{Command: name}
}

// guardedConn lets whole, permitted commands through to the server and nothing else.
type guardedConn struct {
	net.Conn
	allow *allowList

	mu     sync.Mutex
	tail   []byte // the beginning of a command whose end has not been written yet
	args   [][]byte
	broken error
}

func guard(conn net.Conn, allow *allowList) net.Conn {
	return &guardedConn{Conn: conn, allow: allow}
}

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
	whole, err := c.check(data)
	if err != nil {
		// What follows a refused command belongs to a conversation that did not take place.
		c.broken = err
		return 0, err
	}
	if whole > 0 {
		if _, err := c.Conn.Write(data[:whole]); err != nil {
			return 0, err
		}
	}
	c.tail = append(c.tail[:0], data[whole:]...)
	return len(p), nil
}

// check returns how many bytes of data are whole commands, all of which may be sent.
func (c *guardedConn) check(data []byte) (int, error) {
	whole := 0
	for whole < len(data) {
		end, err := c.command(data[whole:])
		if err != nil {
			return 0, err
		}
		if end == 0 {
			break
		}
		if err := c.allow.permit(c.args); err != nil {
			return 0, err
		}
		whole += end
	}
	return whole, nil
}

var errNotACommand = errors.New("refused to send bytes that are not a Redis command")

// command reads one command into c.args and returns its length in bytes, or 0 where its end is
// still to come.
func (c *guardedConn) command(data []byte) (int, error) {
	count, pos, err := header(data, 0, '*')
	if err != nil || pos == 0 {
		return 0, err
	}
	if count < 1 {
		return 0, errNotACommand
	}
	c.args = c.args[:0]
	for range count {
		size, next, err := header(data, pos, '$')
		if err != nil || next == 0 {
			return 0, err
		}
		end := next + size + len("\r\n")
		if end > len(data) {
			return 0, nil
		}
		// Three arguments tell every command apart; the length of the rest is all that matters.
		if len(c.args) < 4 {
			c.args = append(c.args, data[next:next+size])
		}
		pos = end
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
	length := bytes.IndexByte(data[pos:], '\n')
	if length < 0 {
		if len(data)-pos > 32 {
			return 0, 0, errNotACommand
		}
		return 0, 0, nil
	}
	line := data[pos+1 : pos+length]
	number, err = strconv.Atoi(strings.TrimSuffix(string(line), "\r"))
	if err != nil || number < 0 {
		return 0, 0, errNotACommand
	}
	return number, pos + length + 1, nil
}
