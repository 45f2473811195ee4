package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// runProxy stands between a client and a server (the first argument) and delays every byte by half of a round trip (the
// second) in each direction, however many are under way. It writes its address to stdout and ends with stdin.
func runProxy(ctx context.Context, args []string) error {
	trip, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	ended := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(ended)
		listener.Close()
	}()
	var dialer net.Dialer
	for {
		client, err := listener.Accept()
		select {
		case <-ended:
			return nil
		default:
		}
		if err != nil {
			return err
		}
		server, err := dialer.DialContext(ctx, "tcp", args[0])
		if err != nil {
			client.Close()
			continue
		}
		go delay(client, server, trip/2)
		go delay(server, client, trip/2)
	}
}

// chunk is what was read at a time, and when it is to arrive.
type chunk struct {
	data []byte
	due  time.Time
}

// delay hands on what comes from one side to the other, later. Its queue has room for all that can be under way, so it
// delays but does not limit.
func delay(from, to net.Conn, by time.Duration) {
	queue := make(chan chunk, 1<<14)
	go func() {
		defer close(queue)
		for {
			data := make([]byte, 16<<10)
			n, err := from.Read(data)
			if n > 0 {
				queue <- chunk{data[:n], time.Now().Add(by)}
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range queue {
		pause(time.Until(c.due))
		if _, err := to.Write(c.data); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	for range queue { // let the reader end
		continue
	}
}

// proxy is a delaying proxy at work.
type proxy struct {
	addr  string
	cmd   *exec.Cmd
	close func()
}

func startProxy(ctx context.Context, target string, trip time.Duration) (*proxy, error) {
	cmd := self(ctx, "proxy", target, trip.String())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &proxy{cmd: cmd, close: func() {
		stdin.Close()
		_ = cmd.Wait() // it has nothing to say
	}}
	line := make([]byte, 64)
	n, err := stdout.Read(line)
	if err != nil {
		p.close()
		return nil, fmt.Errorf("start the delaying proxy: %w", err)
	}
	p.addr = strings.TrimSpace(string(line[:n]))
	return p, nil
}
