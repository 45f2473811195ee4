package keyspace

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by their SHA-1.
	_ "embed"
	"encoding/hex"
	"errors"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// script is a Lua program that is part of this binary. Redis runs it by its digest, so nothing
// that a configuration or a server says can become a script.
type script struct {
	body   string
	digest string
}

func newScript(body string) script {
	sum := sha1.Sum([]byte(body)) //nolint:gosec // not a security boundary here: see above.
	return script{body: body, digest: hex.EncodeToString(sum[:])}
}

//go:embed lua/role.lua
var roleLua string

//go:embed lua/judge.lua
var judgeLua string

//go:embed lua/evict.lua
var evictLua string

//go:embed lua/capture.lua
var captureLua string

//go:embed lua/lease.lua
var leaseLua string

//go:embed lua/release.lua
var releaseLua string

//go:embed lua/mark.lua
var markLua string

var (
	evictScript, captureScript = newScript(roleLua + judgeLua + evictLua), newScript(judgeLua + captureLua)
	leaseScript, releaseScript = newScript(roleLua + leaseLua), newScript(releaseLua)
	markScript                 = newScript(markLua)
)

// scripts lists those that a connection may run.
func scripts(mode Mode) []script {
	switch mode {
	case Evicting:
		return []script{evictScript, leaseScript, releaseScript, markScript}
	case Preserving:
		return []script{evictScript, leaseScript, releaseScript, markScript, captureScript}
	}
	return nil
}

// loadedScripts remembers which scripts the server has been given. The zero value is ready.
type loadedScripts struct {
	mu     sync.Mutex
	loaded map[string]bool
}

// clear is for another server in the place of the one that was given scripts.
func (l *loadedScripts) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.loaded)
}

func (l *loadedScripts) forget(digest string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.loaded, digest)
}

// run runs a script by its digest, and gives it to the server first where it has not got it: when
// it is new there, after SCRIPT FLUSH, or after a failover (SCRIPT LOAD is not replicated).
// NOSCRIPT is the one answer after which it tries again: nothing has been run then.
func (n *Node) run(ctx context.Context, op string, client *redis.Client, s script, keys []string, args ...any) (any, error) {
	for attempt := 0; ; attempt++ {
		if err := n.load(ctx, op, client, s); err != nil {
			return nil, err
		}
		answer, err := client.EvalSha(ctx, s.digest, keys, args...).Result()
		if err == nil {
			return answer, nil
		}
		err = n.scriptError(ctx, op, err)
		if KindOf(err) != NoScript {
			return nil, err
		}
		n.loaded.forget(s.digest)
		if attempt == 2 {
			return nil, err
		}
	}
}

func (n *Node) load(ctx context.Context, op string, client *redis.Client, s script) error {
	n.loaded.mu.Lock()
	defer n.loaded.mu.Unlock()
	if n.loaded.loaded[s.digest] {
		return nil
	}
	if err := client.ScriptLoad(ctx, s.body).Err(); err != nil {
		err = n.scriptError(ctx, op, err)
		var e *Error
		if errors.As(err, &e) {
			e.Sent = false // whatever became of it, the script has not been run
		}
		return err
	}
	if n.loaded.loaded == nil {
		n.loaded.loaded = map[string]bool{}
	}
	n.loaded.loaded[s.digest] = true
	return nil
}

// scriptError is fail for the commands that run scripts: where those are unknown, scripts are what
// is missing.
func (n *Node) scriptError(ctx context.Context, op string, err error) error {
	wrapped := fail(ctx, op, n.addr, err)
	var e *Error
	if errors.As(wrapped, &e) && e.Kind == NoCommand && !strings.Contains(err.Error(), "called from script") {
		e.Kind, e.Hint = NoEval, hint(NoEval)
	}
	return wrapped
}
