package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"time"
)

// bulk writes many commands whose replies are a status or a number, without waiting for one before sending the next.
type bulk struct {
	conn net.Conn
	w    *bufio.Writer
	sent int64
	// replies carries how the reading ended: the number of replies, and the first error among them.
	replies chan bulkEnd
	want    chan int64
	scratch []byte
}

type bulkEnd struct {
	read int64
	err  error
}

func dialBulk(ctx context.Context, addr string) (*bulk, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	b := &bulk{conn: conn, w: bufio.NewWriterSize(conn, 64<<10), replies: make(chan bulkEnd, 1), want: make(chan int64, 1)}
	go b.read()
	return b, nil
}

// read counts replies until the number of commands is known and reached.
func (b *bulk) read() {
	r := bufio.NewReaderSize(b.conn, 64<<10)
	var end bulkEnd
	want := int64(-1)
	for want < 0 || end.read < want {
		line, err := r.ReadSlice('\n')
		if err != nil {
			if end.err == nil {
				end.err = fmt.Errorf("read the replies: %w", err)
			}
			break
		}
		if line[0] == '-' && end.err == nil {
			end.err = fmt.Errorf("redis-server refused a command of the load: %s", line[1:len(line)-2])
		}
		end.read++
		if want < 0 {
			select {
			case want = <-b.want:
			default:
			}
		}
	}
	b.replies <- end
}

// command begins a command of so many words; word adds them.
func (b *bulk) command(words int) {
	b.sent++
	b.header('*', words)
}

func (b *bulk) header(kind byte, n int) {
	b.scratch = append(b.scratch[:0], kind)
	b.scratch = strconv.AppendInt(b.scratch, int64(n), 10)
	b.scratch = append(b.scratch, "\r\n"...)
	_, _ = b.w.Write(b.scratch) // its error comes back from Flush
}

func (b *bulk) word(parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b.header('$', n)
	for _, p := range parts {
		_, _ = b.w.Write(p)
	}
	_, _ = b.w.WriteString("\r\n")
}

func (b *bulk) text(s string) {
	b.header('$', len(s))
	_, _ = b.w.WriteString(s)
	_, _ = b.w.WriteString("\r\n")
}

func (b *bulk) number(n int64) {
	var digits [20]byte
	b.word(strconv.AppendInt(digits[:0], n, 10))
}

// close sends what is left and waits for all replies.
func (b *bulk) close(ctx context.Context) error {
	defer b.conn.Close()
	stop := context.AfterFunc(ctx, func() { b.conn.Close() })
	defer stop()
	// The one last command makes sure that the reader wakes once more after it knows how many there are.
	b.want <- b.sent + 1
	b.command(1)
	b.text("PING")
	if err := b.w.Flush(); err != nil {
		return err
	}
	select {
	case end := <-b.replies:
		return end.err
	case <-time.After(10 * time.Minute):
		return fmt.Errorf("redis-server did not answer a bulk load within ten minutes")
	}
}
