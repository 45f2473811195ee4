package keyspace

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

func TestConnectingEndsWithItsContextHoweverLongTheServerKeepsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if conn, err := l.Accept(); err == nil {
			cancel(stop)
			<-t.Context().Done()
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	// With these timeouts nothing but the context can end it.
	o := Options{URLs: []string{"redis://" + l.Addr().String()}, Mode: Reading, ConnectTimeout: time.Hour, CommandTimeout: time.Hour, Workers: 1}
	if k, err := Open(ctx, o); !errors.Is(err, stop) || k != nil {
		t.Errorf("got %v, %v", k, err)
	}
}
