// Package lease lets one janitor at a time work on a Redis. The lease is a key there, so that it
// holds for every host; where that key can't be written, a lock on this host has to do.
package lease

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"redis-janitor/janitor/keyspace"
)

const (
	// lasts is how long a dead janitor's lease stands in the way: the contract allows 20 seconds.
	lasts = 15 * time.Second
	// renewEvery leaves room for two renewals to fail before the lease runs out.
	renewEvery = 4 * time.Second
	// askEvery is how often a waiting janitor asks again.
	askEvery = 250 * time.Millisecond
)

// HeldError reports that another janitor is at work.
type HeldError struct {
	By    string
	Since string
}

func (e *HeldError) Error() string {
	if e.By == "" {
		return "another janitor on this host is at work"
	}
	return fmt.Sprintf("another janitor is at work: %s, since %s", e.By, e.Since)
}

// Lease is the right to evict.
type Lease struct {
	node  *keyspace.Node
	token string
	// lock is this host's lock, held instead of the key where that could not be written.
	lock *flock.Flock
	// Unwritten is why the key could not be written; nil where the lease is a key.
	Unwritten error

	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	lost   error
	until  time.Time // by the monotonic clock
}

// Options say who wants the lease and how long they would wait for it.
type Options struct {
	Name    string        // host and process, as others will read it
	Since   time.Time     // when the run began
	Wait    time.Duration // for another janitor's lease to end
	LockDir string        // where this host's locks live
}

// Take takes the lease. The error is a *HeldError where another janitor holds it to the end of the
// wait, and a *keyspace.Error where the server would refuse the eviction too.
func Take(ctx context.Context, node *keyspace.Node, o Options) (*Lease, error) {
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	l := &Lease{node: node, token: token, done: make(chan struct{})}
	deadline := time.Now().Add(o.Wait)
	for {
		held, err := l.try(ctx, o)
		if err != nil {
			return nil, err
		}
		if held == nil {
			break
		}
		if !time.Now().Before(deadline) {
			return nil, held
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(askEvery):
		}
	}
	// The renewals go on while a stopped run finishes its batch, so they end with Release only.
	renewing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel = cancel
	go l.renew(renewing, o)
	return l, nil
}

func newToken() (string, error) {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("make a lease token: %w", err)
	}
	return hex.EncodeToString(random[:]), nil
}

func (l *Lease) try(ctx context.Context, o Options) (*HeldError, error) {
	asked := time.Now()
	holder, ours, err := l.node.TakeLease(ctx, l.token, o.Name, o.Since.UTC().Format(time.RFC3339), lasts, false)
	if err != nil {
		switch keyspace.KindOf(err) {
		case keyspace.OOM, keyspace.NoPerm, keyspace.WrongType, keyspace.Other:
			// Only our own key is refused: that must not stand in the way of a cleanup.
			l.Unwritten = err
			return l.tryHost(o)
		}
		return nil, err
	}
	if !ours {
		return &HeldError{By: holder.Name, Since: holder.Since}, nil
	}
	l.until = asked.Add(lasts)
	return nil, nil
}

func (l *Lease) tryHost(o Options) (*HeldError, error) {
	if l.lock == nil {
		id := l.node.First().Text("run_id")
		if id == "" {
			id = l.node.Addr()
		}
		sum := sha256.Sum256([]byte(id))
		l.lock = flock.New(filepath.Join(o.LockDir, "redis-janitor-"+hex.EncodeToString(sum[:8])+".lock"))
	}
	locked, err := l.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("the lease cannot be written on %s (%w), and neither can this host's lock: %w", l.node.Addr(), l.Unwritten, err)
	}
	if !locked {
		return &HeldError{}, nil
	}
	return nil, nil
}

func (l *Lease) renew(ctx context.Context, o Options) {
	defer close(l.done)
	if l.lock != nil {
		return
	}
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		_, ours, err := l.node.TakeLease(ctx, l.token, o.Name, o.Since.UTC().Format(time.RFC3339), lasts, true)
		l.mu.Lock()
		switch {
		case err == nil && ours:
			l.until = asked.Add(lasts)
		case err == nil:
			l.lost = keyspace.ErrFenced
		}
		// An error alone loses nothing yet: the lease stands until it runs out, and Held sees to that.
		l.mu.Unlock()
	}
}

// Token is what the eviction script checks; "" where there is only this host's lock.
func (l *Lease) Token() string {
	if l.lock != nil {
		return ""
	}
	return l.token
}

// Held is nil while the lease is ours, and says why it is not any more.
func (l *Lease) Held() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return l.lost
	}
	if l.lock == nil && time.Now().After(l.until) {
		return fmt.Errorf("the lease ran out before it could be renewed: %w", keyspace.ErrFenced)
	}
	return nil
}

// Release gives the lease back. A lease that can't be given back runs out by itself.
func (l *Lease) Release(ctx context.Context) error {
	l.cancel()
	<-l.done
	if l.lock != nil {
		return l.lock.Unlock()
	}
	if err := l.node.ReleaseLease(ctx, l.token); err != nil && !errors.Is(err, keyspace.ErrFenced) {
		return fmt.Errorf("the lease stays until it runs out, in %s at most: %w", lasts, err)
	}
	return nil
}
