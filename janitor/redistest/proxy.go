package redistest

import (
	"bufio"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// FaultProxy stands between a client and a server and does to their talk what networks and managed services do. It
// follows requests and replies one by one, so it takes no MONITOR, no SUBSCRIBE and no TLS. All of it may be changed
// while clients are at work.
type FaultProxy struct {
	Addr string

	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu          sync.Mutex
	links       map[*link]bool
	rtt         time.Duration
	refuse      bool
	flowing     chan struct{} // closed while nothing is stalled
	replyBudget int           // bytes of replies until the cut; negative: no end
	dropNext    bool
	dropNames   []string
	dropWhich   func([]string) bool
	answer      func([]string) (string, bool)
}

// Proxy starts a proxy on a free loopback port before target ("host:port"). It is gone when the test is over.
func Proxy(t testing.TB, target string) *FaultProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("starting a proxy before %s: %v", target, err)
	}
	p := &FaultProxy{
		Addr: l.Addr().String(), target: target, listener: l, links: map[*link]bool{},
		flowing: make(chan struct{}), replyBudget: -1,
	}
	close(p.flowing)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.Refuse(true) // also those accepted just now
		p.Cut()
		p.running.Wait()
	})
	return p
}

// SetDelay makes every reply arrive rtt later than it would, without holding up those behind it.
func (p *FaultProxy) SetDelay(rtt time.Duration) { p.set(func() { p.rtt = rtt }) }

// Refuse closes new connections at once; those that are open stay.
func (p *FaultProxy) Refuse(on bool) { p.set(func() { p.refuse = on }) }

// Cut closes every open connection.
func (p *FaultProxy) Cut() {
	p.set(func() {
		for l := range p.links {
			l.close()
		}
	})
}

// Stall holds back all requests and replies, until it is undone: a network that swallows packets.
func (p *FaultProxy) Stall(on bool) {
	p.set(func() {
		stalled := false
		select {
		case <-p.flowing:
		default:
			stalled = true
		}
		switch {
		case on && !stalled:
			p.flowing = make(chan struct{})
		case !on && stalled:
			close(p.flowing)
		}
	})
}

// DropRepliesAfter lets n more bytes of replies through, on all connections together, and then cuts the connection whose
// reply goes beyond them. The server has run that command. It happens once.
func (p *FaultProxy) DropRepliesAfter(n int) { p.set(func() { p.replyBudget = n }) }

// DropNextReply swallows the next reply to any of the named commands (none named: to any command) and cuts its
// connection: the command was run and nobody knows. It happens once.
func (p *FaultProxy) DropNextReply(names ...string) {
	p.set(func() { p.dropNext, p.dropNames = true, names })
}

// DropReplyTo swallows the reply to the first request that which is true of and cuts its connection, where a name would
// not tell one script from another. It happens once.
func (p *FaultProxy) DropReplyTo(which func(cmd []string) bool) {
	p.set(func() { p.dropWhich = which })
}

// Answer has f see every request before the server does. Where f says that it handled one, its reply goes to the client
// in the server's place, in RESP ("-ERR unknown command 'EVALSHA'", the last line's end may be left out). f is called
// from several goroutines, and one connection's requests come in order. nil ends it.
func (p *FaultProxy) Answer(f func(cmd []string) (reply string, handled bool)) {
	p.set(func() { p.answer = f })
}

func (p *FaultProxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *FaultProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// link is one client's connection with its own to the server.
type link struct {
	p              *FaultProxy
	client, server net.Conn
	once           sync.Once
	closed         chan struct{}
	pending        chan request  // in the order of their replies
	arriving       chan delivery // in the order of their arrival
}

// request waits for its reply.
type request struct {
	name  string
	reply []byte // given by Answer; nil: the server's is awaited
	lost  bool   // by DropReplyTo
}

// delivery is what the client gets at a time, and whether it is the last it gets.
type delivery struct {
	data []byte
	due  time.Time
	last bool
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.closed)
		l.client.Close()
		l.server.Close()
	})
}

func (p *FaultProxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	// The queues are deeper than any pipeline in use; one that is longer waits for its first replies.
	l := &link{
		p: p, client: client, server: server, closed: make(chan struct{}),
		pending: make(chan request, 10000), arriving: make(chan delivery, 10000),
	}
	p.set(func() {
		if p.refuse {
			l.close()
		}
		p.links[l] = true
	})
	var directions sync.WaitGroup
	for _, run := range []func(){l.forward, l.reply, l.deliver} {
		directions.Go(func() {
			defer l.close()
			run()
		})
	}
	directions.Wait()
	p.set(func() { delete(p.links, l) })
}

// flow waits while the proxy is stalled; false: the link is closed.
func (l *link) flow() bool {
	var flowing chan struct{}
	l.p.set(func() { flowing = l.p.flowing })
	select {
	case <-flowing:
		return true
	case <-l.closed:
		return false
	}
}

// forward takes requests to the server, as many at once as the client sent.
func (l *link) forward() {
	r, w := bufio.NewReader(l.client), bufio.NewWriter(l.server)
	for {
		command, err := readRequest(r)
		if err != nil || !l.flow() {
			return
		}
		var answer func([]string) (string, bool)
		req := request{name: command[0]}
		l.p.set(func() {
			answer = l.p.answer
			if l.p.dropWhich != nil && l.p.dropWhich(command) {
				req.lost, l.p.dropWhich = true, nil
			}
		})
		if answer != nil {
			if reply, handled := answer(command); handled {
				req.reply = []byte(strings.TrimSuffix(reply, "\r\n") + "\r\n")
			}
		}
		if req.reply == nil {
			_, _ = w.Write(encode(command)) // its error comes back from Flush
		}
		select {
		case l.pending <- req:
		default: // full: replies must move first
			if w.Flush() != nil {
				return
			}
			select {
			case l.pending <- req:
			case <-l.closed:
				return
			}
		}
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
	}
}

// reply pairs replies with their requests and decides what the client gets of them.
func (l *link) reply() {
	r := bufio.NewReader(l.server)
	for last := false; !last; {
		var req request
		select {
		case req = <-l.pending:
		case <-l.closed:
			return
		}
		d := delivery{data: req.reply}
		if d.data == nil {
			var err error
			d.data, err = readReply(r)
			d.last = err != nil // the server is gone: the client still gets what came
		}
		l.p.set(func() {
			var cut bool
			d.data, cut = l.p.fate(req, d.data)
			d.last, d.due = d.last || cut, time.Now().Add(l.p.rtt)
		})
		last = d.last
		select {
		case l.arriving <- d:
		case <-l.closed:
		}
	}
	<-l.closed // by deliver, after the last
}

// fate tells how much of a reply gets through, and whether its connection is cut then.
func (p *FaultProxy) fate(req request, data []byte) (kept []byte, cut bool) {
	named := func(dropped string) bool { return strings.EqualFold(dropped, req.name) }
	switch {
	case req.lost:
		return nil, true
	case p.dropNext && (len(p.dropNames) == 0 || slices.ContainsFunc(p.dropNames, named)):
		p.dropNext = false
		return nil, true
	case p.replyBudget < 0:
		return data, false
	case len(data) <= p.replyBudget:
		p.replyBudget -= len(data)
		return data, false
	}
	kept, p.replyBudget = data[:p.replyBudget], -1
	return kept, true
}

// deliver hands replies to the client when they are due, as many at once as there are.
func (l *link) deliver() {
	w := bufio.NewWriter(l.client)
	for {
		var d delivery
		select {
		case d = <-l.arriving:
		case <-l.closed:
			return
		}
		if wait := time.Until(d.due); wait > 0 {
			if w.Flush() != nil {
				return
			}
			select {
			case <-time.After(wait):
			case <-l.closed:
				return
			}
		}
		if !l.flow() {
			return
		}
		_, _ = w.Write(d.data) // its error comes back from Flush
		if (d.last || len(l.arriving) == 0) && w.Flush() != nil || d.last {
			return
		}
	}
}
