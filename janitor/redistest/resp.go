package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
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

func (s *Server) dial() (*connection, error) {
	conn, err := net.DialTimeout("tcp", s.Addr, readyWithin)
	if err != nil {
		return nil, err
	}
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
func (s *Server) ask(command ...string) (string, error) {
	c, err := s.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.do(command...)
}

// do sends one command whose reply is a status, a number or a string. The reply may take readyWithin.
func (c *connection) do(command ...string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(readyWithin)); err != nil {
		return "", err
	}
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
	n, err := strconv.Atoi(header[1:])
	if err != nil || header[0] != '$' || n < 0 {
		return "", fmt.Errorf("not a string's header: %q", header)
	}
	data := make([]byte, n+2)
	if _, err := io.ReadFull(r, data); err != nil {
		return "", err
	}
	return string(data[:n]), nil
}
