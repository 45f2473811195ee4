package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// player replays a trace on a server of its own, as the application would.
type player struct {
	server *server
	client *redis.Client
	zero   time.Time
	values map[int]string // by length
	// sessions are when each user's session is to end: gone earlier, it was lost.
	sessions map[subject]time.Duration
	lost     int
	looks    []look
	behind   time.Duration // how late an event was played at most
}

// look is one look for a cached result or page.
type look struct {
	at     time.Duration
	family action
	hit    bool
}

// breakdowns and the rest of what other parts of the application keep in the same database: nobody writes them anew.
const (
	breakdowns     = 600
	breakdownBytes = 8000
	taskMetas      = 400
)

func (s subject) name() string {
	hash := fmt.Sprintf("%016x%016x", mix(uint64(s.number)), mix(uint64(s.number)+1))
	switch s.family {
	case useResult:
		return resultPrefix + hash
	case usePage:
		return "combot_cache:1:view:" + hash
	case useBreakdown:
		return "product_breakdown:" + hash
	}
	return sessionPrefix + hash
}

// newPlayer writes what the time before zero has left behind. Zero must be far enough ahead for that.
func newPlayer(ctx context.Context, zero time.Time, events []event) (*player, error) {
	p := &player{server: startServer(), zero: zero, values: map[int]string{}, sessions: map[subject]time.Duration{}}
	p.client = p.server.Client()
	text := string(noise(16 << 10))
	for length := valueStep; length <= breakdownBytes; length += valueStep {
		p.values[length] = text[:length]
	}
	if err := p.remember(ctx, past(events)); err != nil {
		p.server.close()
		return nil, err
	}
	return p, nil
}

// remember writes keys with their expiry and idle time: RESTORE alone can set the latter.
func (p *player) remember(ctx context.Context, keys map[subject]remembered) error {
	dumps := map[int]string{}
	for length, value := range p.values {
		if err := p.client.Set(ctx, "sample", value, 0).Err(); err != nil {
			return err
		}
		dump, err := p.client.Dump(ctx, "sample").Result()
		if err != nil {
			return err
		}
		dumps[length] = dump
	}
	if err := p.client.Del(ctx, "sample").Err(); err != nil {
		return err
	}
	b, err := dialBulk(ctx, p.server.Addr)
	if err != nil {
		return err
	}
	put := func(name string, length int, expires, used time.Duration) {
		b.command(7)
		b.text("RESTORE")
		b.text(name)
		at := int64(0)
		if expires > 0 {
			at = p.zero.Add(expires).UnixMilli()
		}
		b.number(at)
		b.text(dumps[length])
		b.text("ABSTTL")
		b.text("IDLETIME")
		b.number(int64(max(-used, 0) / time.Second))
	}
	for s, k := range keys {
		put(s.name(), s.size(), k.expires, k.used)
		if s.family == useSession {
			p.sessions[s] = k.expires
		}
	}
	for i := range taskMetas {
		// Celery keeps a task's result for a day; hardly one is ever read.
		made := -time.Duration(mix(uint64(i))%(24*60)) * minute
		put(taskMeta(i), 400, 48*60*minute, made)
	}
	for i := range 60 {
		b.command(3)
		b.text("RPUSH")
		b.text("celery")
		b.text(p.values[600] + strconv.Itoa(i))
	}
	b.command(3)
	b.text("SADD")
	b.text("_kombu.binding.celery")
	b.text("celery")
	return b.close(ctx)
}

func taskMeta(i int) string { return fmt.Sprintf("celery-task-meta-%016x", mix(uint64(i))) }

// others are the keys that are none of any cleanup's business.
func others() []string {
	names := []string{"celery", "_kombu.binding.celery"}
	for i := range taskMetas {
		names = append(names, taskMeta(i))
	}
	for i := range breakdowns {
		names = append(names, subject{useBreakdown, uint32(i)}.name())
	}
	return names
}

// play replays the events from zero on.
func (p *player) play(ctx context.Context, events []event) error {
	for _, e := range events {
		if e.at < 0 {
			continue
		}
		pause(time.Until(p.zero.Add(e.at)))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.behind = max(p.behind, time.Since(p.zero.Add(e.at)))
		if err := p.do(ctx, e); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	return nil
}

func (p *player) do(ctx context.Context, e event) error {
	s := e.key()
	err := p.client.Get(ctx, s.name()).Err()
	missing := errors.Is(err, redis.Nil)
	if err != nil && !missing {
		return err
	}
	now := time.Since(p.zero)
	write := missing
	switch s.family {
	case useBreakdown:
		return nil // nobody makes them anew
	case useResult, usePage:
		p.looks = append(p.looks, look{e.at, s.family, !missing})
	case useSession:
		// A moment's grace: the server's clock began when the command reached it, ours when the answer did.
		if missing && p.sessions[s] > now+100*time.Millisecond {
			p.lost++
		}
		write = write || e.action == saveSession
	}
	if !write {
		return nil
	}
	if s.family == useSession {
		p.sessions[s] = now + replaySessions
	}
	return p.client.Set(ctx, s.name(), p.values[s.size()], s.lifetime()).Err()
}

// hitRate is the share of keys of some families that were there, in percent of those looked for in a span of time.
func (p *player) hitRate(from, until time.Duration, families ...action) float64 {
	all, hits := 0, 0
	for _, l := range p.looks {
		if slices.Contains(families, l.family) && l.at >= from && l.at < until {
			all++
			if l.hit {
				hits++
			}
		}
	}
	return 100 * float64(hits) / float64(max(all, 1))
}

// othersLost counts what is gone of other people's keys.
func (p *player) othersLost(ctx context.Context) (int, error) {
	names := others()
	there, err := p.client.Exists(ctx, names...).Result()
	return len(names) - int(there), err
}

// results counts the ML results that are there.
func (p *player) results(ctx context.Context) (int64, error) {
	return p.client.Eval(ctx, "return #redis.call('KEYS', ARGV[1])", nil, resultPrefix+"*").Int64()
}

func (p *player) used(ctx context.Context) (int64, error) {
	info, err := p.server.info(ctx)
	used, _ := info.UsedMemory()
	return used, err
}

// cleaner is one way to get memory down to a target while the application goes on.
type cleaner struct {
	label string
	ours  bool
	clean func(ctx context.Context, b *bench, p *player, limit, target int64) error
}

// The places of cleaners that others are compared with.
const (
	nobody = iota
	builtIn
)

// minIdles are the idle times that results are spared for, in the replay's minutes, and usualMinIdle is the one that the
// goals are about: chosen before anything was measured.
func minIdles() []int { return []int{5, 10, usualMinIdle, 20, 30} }

const usualMinIdle = 15

func cleaners() []cleaner {
	all := []cleaner{
		nobody:  {"nobody cleans", false, func(context.Context, *bench, *player, int64, int64) error { return nil }},
		builtIn: {"redis-janitor, the built-in policy", true, janitorCleans("")},
	}
	for _, m := range minIdles() {
		all = append(all, cleaner{minIdleLabel(m), true, janitorCleans(fmt.Sprintf("    min_idle: %s\n", time.Duration(m)*minute))})
	}
	return append(all,
		cleaner{"the notes' code", false, notesClean},
		cleaner{"SCAN order until the target", false, scanCleans},
		cleaner{"longest unused results until the target", false, idleCleans},
		cleaner{"Redis's own `volatile-ttl`", false, redisCleans("volatile-ttl")},
		cleaner{"Redis's own `allkeys-lru`", false, redisCleans("allkeys-lru")},
	)
}

func minIdleLabel(minutes int) string {
	return fmt.Sprintf("redis-janitor, with `min_idle: %dm` for the results", minutes)
}

// replayPolicy is the built-in policy in the replay's time: a second for a minute.
func replayPolicy(more string) string {
	return fmt.Sprintf(`version: 1
name: replay
protect: ["celery*", "_kombu*", "unacked*"]
busy: {users_over: 20, users_from: none}
families:
  - name: ml-results
    match: ["ml_results:*"]
    lifetime: 120s
    no_ttl: evict
    older_than: {cleanup: 0s, force: 0s, critical: 0s}
%s  - name: app-cache
    match: ["combot_cache:*"]
    lifetime: 60s
    no_ttl: keep
    older_than: {cleanup: 45s, force: 30s, critical: 15s}
  - name: sessions
    match: ["%s*"]
    lifetime: 30s
    no_ttl: keep
    older_than: {force: 25s, critical: 20s}
`, more, sessionPrefix)
}

func janitorCleans(more string) func(context.Context, *bench, *player, int64, int64) error {
	return func(ctx context.Context, b *bench, p *player, limit, target int64) error {
		policy, err := b.write(fmt.Sprintf("replay-%d.yaml", p.server.Port), replayPolicy(more))
		if err != nil {
			return err
		}
		_, out, err := measured(ctx, b.janitor(p.server.Addr, "execute", "--policy", policy, "--memory-limit", strconv.FormatInt(limit, 10),
			"--target", strconv.FormatInt(target, 10), "--yes")...)
		if err == nil {
			_, err = readReport(out, "evicted")
		}
		return err
	}
}

// notesClean clears all results, and all else whose TTL is below an hour.
func notesClean(ctx context.Context, _ *bench, p *player, _, _ int64) error {
	c := peerClient(p.server.Addr)
	defer c.Close()
	doomed, err := c.Keys(ctx, resultPrefix+"*").Result()
	if err != nil {
		return err
	}
	rest, err := c.Keys(ctx, "combot_cache:*").Result()
	if err != nil {
		return err
	}
	for _, key := range rest {
		ttl, err := c.PTTL(ctx, key).Result()
		if err != nil {
			return err
		}
		if 0 < ttl && ttl < 60*minute {
			doomed = append(doomed, key)
		}
	}
	return c.Del(ctx, doomed...).Err()
}

// scanCleans takes results as SCAN finds them, and what else is cached only where they do not suffice.
func scanCleans(ctx context.Context, _ *bench, p *player, _, target int64) error {
	c := peerClient(p.server.Addr)
	defer c.Close()
	for _, pattern := range []string{resultPrefix + "*", "combot_cache:*"} {
		for cursor := uint64(0); ; {
			keys, next, err := c.Scan(ctx, cursor, pattern, 100).Result()
			if err != nil {
				return err
			}
			if len(keys) > 0 {
				if err := c.Unlink(ctx, keys...).Err(); err != nil {
					return err
				}
			}
			if used, err := p.used(ctx); err != nil || used <= target {
				return err
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return nil
}

// idleCleans collects all results with their idle times and takes those first that were used longest ago: as well as can
// be done without taking anything else, by one who has the memory for all names and the time to sort them.
func idleCleans(ctx context.Context, _ *bench, p *player, _, target int64) error {
	c := peerClient(p.server.Addr)
	defer c.Close()
	keys, err := c.Keys(ctx, resultPrefix+"*").Result()
	if err != nil {
		return err
	}
	pipe := c.Pipeline()
	idle := make(map[string]*redis.DurationCmd, len(keys))
	for _, key := range keys {
		idle[key] = pipe.ObjectIdleTime(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(idle[b].Val(), idle[a].Val()) })
	for some := range slices.Chunk(keys, 50) {
		if err := c.Unlink(ctx, some...).Err(); err != nil {
			return err
		}
		if used, err := p.used(ctx); err != nil || used <= target {
			return err
		}
	}
	return nil
}

// redisCleans has the server evict by itself until it is at the target, and then sets it free again: left in force, its
// maxmemory would go on evicting, which none of the others does.
func redisCleans(policy string) func(context.Context, *bench, *player, int64, int64) error {
	return func(ctx context.Context, _ *bench, p *player, _, target int64) error {
		c := peerClient(p.server.Addr)
		defer c.Close()
		if err := c.ConfigSet(ctx, "maxmemory-policy", policy).Err(); err != nil {
			return err
		}
		if err := c.ConfigSet(ctx, "maxmemory", strconv.FormatInt(target, 10)).Err(); err != nil {
			return err
		}
		for used := target + 1; used > target; {
			var err error
			if used, err = p.used(ctx); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(5 * time.Millisecond):
			}
		}
		return c.ConfigSet(ctx, "maxmemory", "0").Err()
	}
}
