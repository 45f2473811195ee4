// Package demo tells what the janitor does, on an embedded Redis that it fills by itself: a server
// shaped like a t3.large at 1/1000, with the keys of the chatbot backend of the built-in policy.
//
// The janitor it shows is the whole one, over TCP; nothing in it knows of this package.
package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/demo/embedded"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// Options are the demo's surroundings. What Show or Say return as an error ends the demo.
type Options struct {
	// Show draws a heading, what there is to say, and a report; nil where there is none yet.
	Show func(title, explanation string, r *janitor.Report) error
	Say  func(text string) error // a paragraph
	// Env is as for any run. The story's clock begins at Now, and is its own from then on.
	Env     janitor.Env
	Seed    uint64 // the same seed fills in the same keys
	Version string
}

// limit stands for a t3.large's 8 GB, so that its 4.8, 6 and 6.8 GB read 4.80, 6.00 and 6.80 MB.
const limit = 8 << 20

// Run tells the story from its beginning to its end. It fails where anything came out differently
// from what it tells: its last act looks at every key.
func Run(ctx context.Context, o Options) error {
	s, err := open(o)
	if err != nil {
		return err
	}
	defer s.server.Close()
	for _, act := range []func(context.Context) error{s.asItStands, s.cleanup, s.force, s.critical, s.whatWasKept} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// story is one telling.
type story struct {
	Options
	server *embedded.Server
	policy janitor.Policy
	keys   *keys
	ledger ledger
}

// open starts the server and fills it for the first act.
func open(o Options) (*story, error) {
	server, err := embedded.NewServer(o.Env.Now())
	if err != nil {
		return nil, err
	}
	s := &story{Options: o, server: server, policy: janitor.Combot(), ledger: ledger{evicted: map[kind]int{}, youngest: map[kind]time.Duration{}}}
	s.policy.Memory.Limit = janitor.Limit{Bytes: limit}
	s.keys = &keys{server: server, random: rand.New(rand.NewPCG(o.Seed, 0)), kinds: map[string]kind{}}
	if err := s.keys.everyday(); err != nil {
		server.Close()
		return nil, fmt.Errorf("fill the embedded Redis: %w", err)
	}
	return s, nil
}

func (s *story) asItStands(ctx context.Context) error {
	if err := s.fill(4.5, s.keys.breakdown); err != nil {
		return err
	}
	if err := s.heading("A demonstration, on an embedded Redis", "This runs on an embedded Redis (miniredis) inside this very process, at %s. No other Redis "+
		"is touched, and everything in it is gone at the end. It is shaped like a t3.large at 1/1000, 8 MB in the place of 8 GB, and filled with what a "+
		"chatbot backend keeps. The janitor reaches it over TCP and works as it would on yours. What the server says of its memory is the sum of what is "+
		"stored: keys, values, and what Redis keeps beside them.", s.server.URL()); err != nil {
		return err
	}
	if err := s.inventory(); err != nil {
		return err
	}
	r, err := s.run(ctx, janitor.Plan, janitor.BelowThreshold)
	if err != nil {
		return err
	}
	return s.Show("1. As it stands: nothing to do", "Memory is below the first threshold of 4.8 MB, so the janitor looks at no key at all. Run from cron, it "+
		"nearly always leaves here.", r)
}

func (s *story) cleanup(ctx context.Context) error {
	if err := s.fill(4.95, s.keys.freshResult); err != nil {
		return err
	}
	r, err := s.run(ctx, janitor.Plan, janitor.TargetReached)
	if err != nil {
		return err
	}
	if err := s.Show("2. Past 4.8 MB: cleanup", "New ML results came in. A plan, which only reads, says what would go: ML results first, since they can be computed "+
		"again, and the oldest of them first. With those the target is reached, so cached pages stay; sessions are out of the question at this level. "+
		"The warnings tell of keys that live longer than the policy says: how old they are cannot be known, and what is unknown is kept.", r); err != nil {
		return err
	}
	if r, err = s.run(ctx, janitor.DryRun, janitor.TargetReached); err != nil {
		return err
	}
	if err := s.say("A dry run takes every decision on every key, with the very code of execute, and leaves out the deletion alone. It says: %s.", r.Message); err != nil {
		return err
	}
	if r, err = s.run(ctx, janitor.Execute, janitor.TargetReached); err != nil {
		return err
	}
	return s.Show("And for real", "Each key's TTL is read again in the moment of its deletion: one that was refreshed in between would stay.", r)
}

// people is how many are at work in the third act: more than the 20 that the policy lets be interrupted.
const people = 30

func (s *story) force(ctx context.Context) error {
	if err := s.burst(6.1, 0.55); err != nil {
		return err
	}
	if err := s.heading("3. Past 6 MB: force, but not now", "A flood of new keys takes memory straight on to the next level."); err != nil {
		return err
	}
	r, err := s.run(ctx, janitor.Execute, janitor.Cooldown)
	if err != nil {
		return err
	}
	if err := s.say("Execute at once: %s (%s), exit %d: %s.", r.Outcome, r.Reason, r.ExitCode, r.Message); err != nil {
		return err
	}
	s.server.Advance(3 * time.Minute)
	if err := s.logIn(people); err != nil {
		return err
	}
	if err := s.fill(6.1, s.keys.breakdown); err != nil { // in the place of what expired meanwhile
		return err
	}
	if r, err = s.run(ctx, janitor.Plan, janitor.TargetReached); err != nil {
		return err
	}
	if err := s.say("Three minutes later, plan says: %s.", r.Message); err != nil {
		return err
	}
	if r, err = s.run(ctx, janitor.Execute, janitor.Busy); err != nil {
		return err
	}
	return s.Show("Execute, three minutes later", fmt.Sprintf("%d people are at work by now: so many sessions are younger than five minutes. Below the critical "+
		"level nobody is interrupted, so this run leaves too, with exit code 0, as there is nothing wrong.", people), r)
}

func (s *story) critical(ctx context.Context) error {
	results, err := s.leaveRoomForSessions(6.9)
	if err != nil {
		return err
	}
	if err := s.burst(6.9, results); err != nil {
		return err
	}
	r, err := s.run(ctx, janitor.Plan, janitor.TargetReached)
	if err != nil {
		return err
	}
	if err := s.heading("4. Past 6.8 MB: critical", "Now neither people nor a cooldown hold the janitor back: the next step would be a Redis that takes no more "+
		"writes. Plan says: %s.", r.Message); err != nil {
		return err
	}
	if r, err = s.run(ctx, janitor.DryRun, janitor.TargetReached); err != nil {
		return err
	}
	if err := s.Show("The dry run, in full", "ML results of any age go, then pages older than 15 minutes, and because those are not enough, sessions that nobody "+
		"has written to for 20 of their 30 minutes, the oldest first. Nobody who is at work is logged out.", r); err != nil {
		return err
	}
	if r, err = s.run(ctx, janitor.Execute, janitor.TargetReached); err != nil {
		return err
	}
	return s.Show("And for real", "It stops as soon as memory is at the target of 55 %, and leaves the rest.", r)
}

// heading is an act, or a part of one, that begins without a report.
func (s *story) heading(title, format string, args ...any) error {
	return s.Show(title, fmt.Sprintf(format, args...), nil)
}

// fill brings the server to so many megabytes.
func (s *story) fill(megabytes float64, write func()) error {
	if err := s.keys.measure(); err != nil {
		return err
	}
	s.keys.until(int64(megabytes*(1<<20)), write)
	return nil
}

// burst brings the server to so many megabytes: first with new ML results, then with an import
// that no family of the policy lets go.
func (s *story) burst(megabytes, ofResults float64) error {
	if err := s.keys.measure(); err != nil {
		return err
	}
	top := int64(megabytes * (1 << 20))
	s.keys.until(min(s.keys.used+int64(ofResults*(1<<20)), top), s.keys.freshResult)
	s.keys.until(top, s.keys.breakdown)
	return nil
}

// leaveRoomForSessions is how many megabytes of new ML results there may be so that at the critical
// level, and with so many megabytes in all, about half of the old sessions have to go as well.
func (s *story) leaveRoomForSessions(megabytes float64) (float64, error) {
	entries, err := s.server.Entries()
	if err != nil {
		return 0, err
	}
	need := megabytes*(1<<20) - s.policy.Memory.Target.Share*limit
	for key, e := range entries {
		k := s.keys.kinds[key]
		if !s.mayGo(k, e.TTL, ttlpolicy.Critical) {
			continue
		}
		bytes := float64(embedded.StringBytes(key, e.Value, e.TTL))
		if k == sessions {
			bytes /= 2
		}
		need -= bytes
	}
	return max(need, 0) / (1 << 20), nil
}

// logIn lets people log in until so many are active.
func (s *story) logIn(active int) error {
	before, err := s.server.Entries()
	if err != nil {
		return err
	}
	for key, entry := range before {
		// Like the janitor, by the age: lifetime less what is left. A longer TTL tells none.
		if s.keys.kinds[key] == sessions && entry.TTL <= sessionLifetime && entry.TTL >= sessionLifetime-s.policy.Busy.ActiveWithin {
			active--
		}
	}
	for range active {
		s.keys.session(sessionLifetime - s.keys.upTo(4*time.Minute))
	}
	return nil
}

// run lets the janitor do one thing on the embedded server, and fails where it came to another end
// than the story tells.
func (s *story) run(ctx context.Context, command janitor.Command, want janitor.Reason) (*janitor.Report, error) {
	before, err := s.server.Entries()
	if err != nil {
		return nil, err
	}
	env := s.Env
	env.Now = s.server.Now // TTLs and the janitor's clock stand still together
	began := s.Env.Now()
	r := janitor.Run(ctx, janitor.Request{
		Command: command, Version: s.Version, Policy: s.policy, ActiveUsers: -1, Confirmed: true, Pace: "auto",
		Connection: keyspace.Options{URLs: []string{s.server.URL()}, ConnectTimeout: 5 * time.Second, CommandTimeout: 5 * time.Second, Workers: 2},
	}, env)
	r.DurationMS = s.Env.Now().Sub(began).Milliseconds()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if r.Reason != want || r.ExitCode != janitor.ExitDone {
		return nil, fmt.Errorf("the demo's %s ended with %s (%s, exit %d), and was to end with %s: %s", command, r.Outcome, r.Reason, r.ExitCode, want, r.Message)
	}
	after, err := s.server.Entries()
	if err != nil {
		return nil, err
	}
	return r, s.book(before, after, r)
}

func (s *story) say(format string, args ...any) error { return s.Say(fmt.Sprintf(format, args...)) }

// inventory says what is stored, by what it is for.
func (s *story) inventory() error {
	entries, err := s.server.Entries()
	if err != nil {
		return err
	}
	counts := map[kind]int{}
	for key := range entries {
		counts[s.keys.kinds[key]]++
	}
	parts := make([]string, 0, len(counts))
	for _, k := range kinds() {
		parts = append(parts, fmt.Sprintf("%d %s", counts[k], k.name))
	}
	return s.say("It holds %d keys, %s in all: %s.", len(entries), ttlpolicy.FormatSize(s.keys.used), strings.Join(parts, ", "))
}
