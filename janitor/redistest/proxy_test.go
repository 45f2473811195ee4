package redistest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor/redistest"
)

// behindProxy returns a proxied client whose commands give up after patience, and a plain one.
func behindProxy(t *testing.T, patience time.Duration) (p *redistest.FaultProxy, proxied, direct *redis.Client) {
	t.Helper()
	s := redistest.Start(t)
	p = redistest.Proxy(t, s.Addr)
	proxied = redis.NewClient(&redis.Options{
		Addr: p.Addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1, ReadTimeout: patience, DialerRetries: 1,
	})
	t.Cleanup(func() { proxied.Close() })
	direct = s.Client()
	for _, c := range []*redis.Client{proxied, direct} {
		if err := c.Ping(context.Background()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return p, proxied, direct
}

func TestAProxyPassesPipelinesOnUnchanged(t *testing.T) {
	_, c, _ := behindProxy(t, time.Minute)
	ctx := context.Background()
	big := strings.Repeat("x\r\n", 100_000)
	replies, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 30_000 {
			p.Set(ctx, fmt.Sprint(i), i, 0)
		}
		p.Set(ctx, "big", big, 0)
		p.Get(ctx, "big")
		p.Get(ctx, "missing")
		p.MGet(ctx, "1", "missing", "2")
		return nil
	})
	if !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	last := replies[len(replies)-3:]
	if last[0].(*redis.StringCmd).Val() != big || fmt.Sprint(last[2].(*redis.SliceCmd).Val()) != "[1 <nil> 2]" {
		t.Errorf("replies were changed: %.200v", last)
	}
}

func TestAProxyPassesRESP3On(t *testing.T) {
	s := redistest.Start(t)
	c := redis.NewClient(&redis.Options{Addr: redistest.Proxy(t, s.Addr).Addr, Protocol: 3, MaxRetries: -1})
	defer c.Close()
	ctx := context.Background()
	if err := c.HSet(ctx, "hash", "field", "value").Err(); err != nil {
		t.Fatal(err)
	}
	if got := c.HGetAll(ctx, "hash").Val()["field"]; got != "value" {
		t.Errorf("field is %q", got)
	}
	if err := c.ConfigSet(ctx, "nonsense", "1").Err(); err == nil {
		t.Error("an error reply was lost")
	}
}

func TestADelayHoldsEveryReplyBackOnce(t *testing.T) {
	p, c, _ := behindProxy(t, time.Minute)
	ctx := context.Background()
	const rtt = 200 * time.Millisecond
	p.SetDelay(rtt)
	start := time.Now()
	if err := c.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < rtt {
		t.Errorf("a round trip took %s, want %s at least", took, rtt)
	}
	start = time.Now()
	if _, err := c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for range 1000 {
			pipe.Ping(ctx)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// 1000 replies one after the other would take 200 s.
	if took := time.Since(start); took < rtt || took > 100*rtt {
		t.Errorf("a pipeline took %s, want about %s", took, rtt)
	}
}

func TestACutEndsOpenConnectionsAndTakesNewOnes(t *testing.T) {
	p, c, _ := behindProxy(t, time.Minute)
	ctx := context.Background()
	conn := c.Conn()
	defer conn.Close()
	if err := conn.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if err := conn.Ping(ctx).Err(); err == nil {
		t.Error("the connection survived")
	}
	again := redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1})
	defer again.Close()
	if err := again.Ping(ctx).Err(); err != nil {
		t.Errorf("a new connection: %v", err)
	}
}

func TestARefusalMeetsNewConnectionsOnly(t *testing.T) {
	p, c, _ := behindProxy(t, time.Minute)
	ctx := context.Background()
	p.Refuse(true)
	if err := c.Ping(ctx).Err(); err != nil {
		t.Errorf("the open connection: %v", err)
	}
	other := redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1, DialerRetries: 1})
	defer other.Close()
	if err := other.Ping(ctx).Err(); err == nil {
		t.Error("a new connection was taken")
	}
	p.Refuse(false)
	if err := other.Ping(ctx).Err(); err != nil {
		t.Errorf("after the refusal: %v", err)
	}
}

func TestAStallHoldsRequestsBackUntilItEnds(t *testing.T) {
	p, c, direct := behindProxy(t, 200*time.Millisecond)
	ctx := context.Background()
	p.Stall(true)
	p.Stall(true)
	if err := c.Incr(ctx, "n").Err(); err == nil {
		t.Error("a stalled command was answered")
	}
	if n := direct.Exists(ctx, "n").Val(); n != 0 {
		t.Error("a stalled command reached the server")
	}
	p.Stall(false)
	if err := c.Incr(ctx, "m").Err(); err != nil {
		t.Errorf("after the stall: %v", err)
	}
}

func TestADroppedReplyHidesACommandThatWasRun(t *testing.T) {
	for name, drop := range map[string]func(*redistest.FaultProxy){
		"any":     func(p *redistest.FaultProxy) { p.DropNextReply() },
		"by name": func(p *redistest.FaultProxy) { p.DropNextReply("unlink", "incr") },
		"by request": func(p *redistest.FaultProxy) {
			p.DropReplyTo(func(cmd []string) bool { return len(cmd) == 2 && cmd[1] == "n" })
		},
		"at once":     func(p *redistest.FaultProxy) { p.DropRepliesAfter(0) },
		"mid-reply":   func(p *redistest.FaultProxy) { p.DropRepliesAfter(2) },
		"after delay": func(p *redistest.FaultProxy) { p.SetDelay(time.Millisecond); p.DropNextReply() },
	} {
		t.Run(name, func(t *testing.T) {
			p, c, direct := behindProxy(t, time.Minute)
			ctx := context.Background()
			drop(p)
			if err := c.Incr(ctx, "n").Err(); err == nil {
				t.Error("the reply came")
			}
			if n := direct.Get(ctx, "n").Val(); n != "1" {
				t.Errorf("the server counted %q, want 1", n)
			}
			if err := c.Incr(ctx, "n").Err(); err != nil {
				t.Errorf("the next command: %v", err)
			}
		})
	}
}

// Without go-redis, which calls every command of a pipeline failed when the connection is lost on the way.
func TestADroppedReplyLeavesThoseBeforeItInThePipeline(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.Proxy(t, s.Addr)
	p.SetDelay(20 * time.Millisecond)
	p.DropNextReply("INCR")
	conn, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pipeline := "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n" + "*2\r\n$3\r\nGET\r\n$1\r\na\r\n" + "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"
	if _, err := io.WriteString(conn, pipeline); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "+OK\r\n$1\r\nb\r\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAnAnswerStandsInForTheServerInItsPlaceOfThePipeline(t *testing.T) {
	p, c, direct := behindProxy(t, time.Minute)
	ctx := context.Background()
	p.Answer(func(cmd []string) (string, bool) {
		return fmt.Sprintf("-ERR unknown command '%s'", cmd[0]), strings.EqualFold(cmd[0], "incr")
	})
	replies, _ := c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, "a", "b", 0)
		pipe.Incr(ctx, "n")
		pipe.Get(ctx, "a")
		return nil
	})
	if replies[0].Err() != nil || replies[1].Err() == nil || !strings.HasPrefix(replies[1].Err().Error(), "ERR unknown command 'incr'") ||
		replies[2].(*redis.StringCmd).Val() != "b" {
		t.Errorf("got %v", replies)
	}
	if direct.Exists(ctx, "n").Val() != 0 {
		t.Error("the answered command reached the server")
	}
	p.Answer(nil)
	if err := c.Incr(ctx, "n").Err(); err != nil {
		t.Errorf("after the answers: %v", err)
	}
}
