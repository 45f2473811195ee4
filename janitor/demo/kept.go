package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/janitor/demo/embedded"
	"redis-janitor/ttlpolicy"
)

// ledger says what has become of the keys: from what the server held before and after each run, not
// from what the janitor reports.
type ledger struct {
	evicted  map[kind]int
	youngest map[kind]time.Duration // the least age that was evicted; of keys with a TTL
}

// mayGo is what policy and level say of a key, by the policy's figures alone: an answer that shares
// no code with the janitor's.
func (s *story) mayGo(k kind, ttl time.Duration, level ttlpolicy.Level) bool {
	for _, f := range s.policy.Families {
		if f.Name != k.family {
			continue
		}
		olderThan, acts := f.Rule.OlderThan[level]
		if ttl == 0 {
			return acts && f.Rule.EvictNoTTL
		}
		return acts && ttl <= f.Rule.Lifetime && f.Rule.Lifetime-ttl >= olderThan
	}
	return false
}

// book compares what the server held before and after a run. It fails unless exactly as many keys
// are gone as the report says, all of them such that may go, and every other key is as it was.
func (s *story) book(before, after map[string]embedded.Entry, r *janitor.Report) error {
	gone := map[string]int64{}
	for key, was := range before {
		k, ours := s.keys.kinds[key]
		is, there := after[key]
		switch {
		case !ours: // the janitor's own
		case there && is == was:
		case there:
			return fmt.Errorf("the demo found key %q (%s) changed after %s", key, k.name, r.Command)
		case r.Command != string(janitor.Execute) || !s.mayGo(k, was.TTL, r.Level):
			return fmt.Errorf("the demo misses key %q (%s, TTL %s), which %s at level %s was not to evict", key, k.name, was.TTL, r.Command, r.Level)
		default:
			gone[k.family]++
			s.ledger.evicted[k]++
			if age := s.lifetime(k) - was.TTL; was.TTL > 0 && (s.ledger.youngest[k] == 0 || age < s.ledger.youngest[k]) {
				s.ledger.youngest[k] = age
			}
		}
	}
	for _, f := range r.Nodes[0].Families {
		if r.Command == string(janitor.Execute) && f.Evicted != gone[f.Name] {
			return fmt.Errorf("the demo misses %d keys of family %s, of which the report says %d", gone[f.Name], f.Name, f.Evicted)
		}
	}
	return nil
}

func (s *story) lifetime(k kind) time.Duration {
	for _, f := range s.policy.Families {
		if f.Name == k.family {
			return f.Rule.Lifetime
		}
	}
	return 0
}

// whatWasKept counts what is still there.
func (s *story) whatWasKept(context.Context) error {
	entries, err := s.server.Entries()
	if err != nil {
		return err
	}
	stay, written, evicted := map[kind]int{}, map[kind]int{}, 0
	for key, k := range s.keys.kinds {
		written[k]++
		if _, there := entries[key]; there {
			stay[k]++
		}
	}
	for _, n := range s.ledger.evicted {
		evicted += n
	}
	if err := s.heading("5. What was kept", "After each run the demo compared every key on the server with what it had been before: %d were evicted, as many as "+
		"the reports say, and each of them one that policy, level and age let go. Every other key kept its value and its TTL.", evicted); err != nil {
		return err
	}
	var untouched []string
	for _, k := range kinds() {
		expired := ""
		if n := written[k] - stay[k] - s.ledger.evicted[k]; n > 0 {
			expired = fmt.Sprintf(" (the TTL of %d more ran out)", n)
		}
		if k.family == "" {
			untouched = append(untouched, fmt.Sprintf("%d %s%s", stay[k], k.name, expired))
			continue
		}
		text := fmt.Sprintf("Of %d %s %d were evicted and %d are there%s.", written[k], k.name, s.ledger.evicted[k], stay[k], expired)
		if k == sessions {
			text += fmt.Sprintf(" The youngest that went was %s old.", ttlpolicy.FormatDuration(s.ledger.youngest[k]))
		}
		if err := s.Say(text); err != nil {
			return err
		}
	}
	if err := s.say("Nothing else was touched: there are %s.", strings.Join(untouched, ", ")); err != nil {
		return err
	}
	calls := s.server.Calls()
	for _, name := range []string{"FLUSHDB", "FLUSHALL", "KEYS", "SWAPDB", "CONFIG", "DEBUG", "SHUTDOWN"} {
		if calls[name] > 0 {
			return fmt.Errorf("the demo's server was sent %s", name)
		}
	}
	return s.say("The server counted its commands: no FLUSHDB, no FLUSHALL, no KEYS. That was the embedded Redis, and it is gone now. To look at a real one, " +
		"only reading: redis-janitor plan --url redis://HOST:PORT/0")
}
