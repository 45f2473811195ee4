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
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
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
	space       *keyspace.Keyspace
	token       string
	name, since string // as others will read them
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
func Take(ctx context.Context, space *keyspace.Keyspace, o Options) (*Lease, error) {
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	l := &Lease{space: space, token: token, name: o.Name, since: o.Since.UTC().Format(time.RFC3339), done: make(chan struct{})}
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
	go l.renew(renewing)
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
	var asked time.Time
	var holder keyspace.Holder
	var ours bool
	err := keyspace.Again(ctx, func() (err error) {
		asked = time.Now()
		holder, ours, err = l.space.TakeLease(ctx, l.token, l.name, l.since, lasts, false)
		return err
	})
	if err != nil {
		refused := false
		switch keyspace.KindOf(err) {
		case keyspace.OOM, keyspace.NoPerm, keyspace.NoCommand, keyspace.WrongType, keyspace.Other:
			refused = true
		case keyspace.Unreachable, keyspace.Loading, keyspace.ClusterDown, keyspace.Moved:
			// The server that would have the lease is down, or its slot on the way to another one; the others are not.
			refused = l.space.Clustered()
		}
		if !refused {
			return nil, err
		}
		// Only our own key is refused: that must not stand in the way of a cleanup.
		l.Unwritten = err
		return l.tryHost(o)
	}
	if !ours {
		return &HeldError{By: holder.Name, Since: holder.Since}, nil
	}
	l.until = asked.Add(lasts)
	// An earlier try may have had to do with this host's lock.
	l.lock, l.Unwritten = nil, nil
	return nil, nil
}

func (l *Lease) tryHost(o Options) (*HeldError, error) {
	if l.lock == nil {
		sum := sha256.Sum256([]byte(l.space.Identity()))
		l.lock = flock.New(filepath.Join(o.LockDir, "redis-janitor-"+hex.EncodeToString(sum[:8])+".lock"),
			flock.SetFlag(os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK))
	}
	locked, err := l.lock.TryLock()
	if errors.Is(err, fs.ErrNotExist) {
		if err = begin(l.lock.Path()); err == nil {
			locked, err = l.lock.TryLock()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the lease cannot be written (%w), and neither can this host's lock: %w", l.Unwritten, err)
	}
	if !locked {
		return &HeldError{}, nil
	}
	return nil, nil
}

// begin makes a lock's file, which stays: for every user of the host, since who runs the next janitor is not known.
// It is made and opened apart, because in a folder such as /tmp Linux opens no other user's file that might be
// made (fs.protected_regular), and a link that somebody has put there must lead nowhere.
func begin(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil // another janitor was faster
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Chmod(0o644), file.Close()) // whatever the umask
}

func (l *Lease) renew(ctx context.Context) {
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
		// An error alone loses nothing yet: the lease stands until it runs out, and Held sees to that.
		_ = l.keep(ctx)
	}
}

// keep renews the lease. One that is missing before its time is taken again: nobody can have let it
// run out, so the server itself has lost it, by evicting it for its short TTL or by a restart.
func (l *Lease) keep(ctx context.Context) error {
	asked := time.Now()
	_, ours, err := l.space.TakeLease(ctx, l.token, l.name, l.since, lasts, l.Held() != nil)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ours {
		l.lost = keyspace.ErrFenced
	}
	if l.lost == nil {
		l.until = asked.Add(lasts)
	}
	return l.lost
}

// Reclaim is for a janitor that the server has fenced off: nil where the lease is ours again, because
// it was only missing; ErrFenced where it has run out or another janitor has it.
func (l *Lease) Reclaim(ctx context.Context) error {
	if err := l.Held(); err != nil || l.lock != nil {
		return err
	}
	return l.keep(ctx)
}

// Retake takes the lease for a run that begins again on a server that was restarted: with what is
// there now, and whether or not the old one is.
func (l *Lease) Retake(ctx context.Context) error {
	if l.lock != nil {
		return nil
	}
	asked := time.Now()
	_, ours, err := l.space.TakeLease(ctx, l.token, l.name, l.since, lasts, false)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Until the server has said so nobody may go by it: others of the run's nodes are at work.
	l.lost, l.until = nil, asked.Add(lasts)
	if !ours {
		l.lost = keyspace.ErrFenced
	}
	return l.lost
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

// Rest ends the renewals: one that is under way would take back what is released. It is waited for no longer than patience,
// since a server that does not answer it answers nothing else either.
func (l *Lease) Rest(patience time.Duration) error {
	l.cancel()
	select {
	case <-l.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the lease stays until it runs out, in %s at most: its last renewal is not answered", lasts)
	}
}

// Release gives the lease back, when it has come to Rest. A lease that can't be given back runs out by itself.
func (l *Lease) Release(ctx context.Context) error {
	if l.lock != nil {
		return l.lock.Unlock()
	}
	if err := l.space.ReleaseLease(ctx, l.token); err != nil && !errors.Is(err, keyspace.ErrFenced) {
		return fmt.Errorf("the lease stays until it runs out, in %s at most: %w", lasts, err)
	}
	return nil
}
