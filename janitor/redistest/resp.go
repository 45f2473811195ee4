package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// replyError is an error reply of the server, without the leading '-'.
type replyError string

func (e replyError) Error() string { return string(e) }

func isReply(err error) bool {
	var reply replyError
	return errors.As(err, &reply)
}

// connection speaks just enough RESP2 to ask a server about itself without a client library's own commands (HELLO,
// CLIENT) turning up among the counts.
type connection struct {
	net.Conn
	r *bufio.Reader
}

// dial connects and logs in. The connection is closed when ctx ends, whatever is under way on it.
func (s *Server) dial(ctx context.Context) (*connection, error) {
	dialer := net.Dialer{Timeout: readyWithin}
	conn, err := dialer.DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	c := &connection{Conn: conn, r: bufio.NewReader(conn)}
	if s.Password != "" {
		if _, err := c.do("AUTH", s.Password); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return c, nil
}

// ask sends one command on a connection of its own.
func (s *Server) ask(ctx context.Context, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	c, err := s.dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.do(command...)
}

// do sends one command whose reply is a status, a number or a string.
func (c *connection) do(command ...string) (string, error) {
	if _, err := c.Write(encode(command)); err != nil {
		return "", err
	}
	line, err := readLine(c.r)
	if err != nil {
		return "", err
	}
	switch line[0] {
	case '-':
		return "", replyError(line[1:])
	case '+', ':':
		return line[1:], nil
	case '$':
		return readBulk(c.r, line)
	}
	return "", fmt.Errorf("reading the reply to %s: unexpected %q", command[0], line)
}

func encode(command []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(command))
	for _, word := range command {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
	}
	return []byte(b.String())
}

// readLine returns a line without its end; never an empty one.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	if line = strings.TrimSuffix(line, "\r\n"); line == "" {
		return "", errors.New("an empty line where RESP has none")
	}
	return line, nil
}

// readBulk reads what a "$<length>" header announces.
func readBulk(r *bufio.Reader, header string) (string, error) {
	n, err := length(header)
	if err != nil || header[0] != '$' || n < 0 {
		return "", fmt.Errorf("not a string's header: %q", header)
	}
	data := make([]byte, n+2)
	if _, err := io.ReadFull(r, data); err != nil {
		return "", err
	}
	return string(data[:n]), nil
}

func length(header string) (int, error) { return strconv.Atoi(header[1:]) }

// readRequest reads one command.
func readRequest(r *bufio.Reader) ([]string, error) {
	header, err := readLine(r)
	if err != nil {
		return nil, err
	}
	n, err := length(header)
	if err != nil || header[0] != '*' || n < 1 {
		return nil, fmt.Errorf("not a command's header: %q", header)
	}
	command := make([]string, n)
	for i := range command {
		header, err := readLine(r)
		if err != nil {
			return nil, err
		}
		if command[i], err = readBulk(r, header); err != nil {
			return nil, err
		}
	}
	return command, nil
}

// readReply returns the next reply as it came, with what the server pushed before it (RESP3), which answers nothing.
func readReply(r *bufio.Reader) (raw []byte, err error) {
	for {
		start := len(raw)
		raw, err = appendReply(raw, r)
		if err != nil || raw[start] != '>' {
			return raw, err
		}
	}
}

// appendReply appends one whole reply as it came, RESP2 or RESP3, to raw.
func appendReply(raw []byte, r *bufio.Reader) ([]byte, error) {
	header, err := readLine(r)
	if err != nil {
		return nil, err
	}
	raw = append(append(raw, header...), "\r\n"...)
	parts := 0
	switch header[0] {
	case '$', '!', '=':
		n, err := length(header)
		if err != nil || n < 0 {
			return raw, err
		}
		start := len(raw)
		raw = append(raw, make([]byte, n+2)...)
		_, err = io.ReadFull(r, raw[start:])
		return raw, err
	case '*', '~', '>':
		parts, err = length(header)
	case '%':
		parts, err = length(header)
		parts *= 2
	case '|': // attributes stand before the reply that they belong to
		parts, err = length(header)
		parts = 2*parts + 1
	}
	for ; err == nil && parts > 0; parts-- {
		raw, err = appendReply(raw, r)
	}
	return raw, err
}
