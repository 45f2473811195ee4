package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// maxSessionTTL is the remaining TTL up to which a session is old.
const maxSessionTTL = sessionLifetime - sessionAge

func peerClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1, ReadTimeout: 10 * time.Minute, WriteTimeout: time.Minute,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// runNotes does what the notes' code does: KEYS and one DEL for the results; KEYS, one TTL after the other and one DEL
// for the sessions. (The notes ask for the TTLs of all of combot_cache:*; here only of the sessions, which is less.)
func runNotes(ctx context.Context, args []string) error {
	c := peerClient(args[0])
	defer c.Close()
	results, err := c.Keys(ctx, resultPrefix+"*").Result()
	if err != nil {
		return err
	}
	if len(results) > 0 {
		if err := c.Del(ctx, results...).Err(); err != nil {
			return err
		}
	}
	sessions, err := c.Keys(ctx, sessionPrefix+"*").Result()
	if err != nil {
		return err
	}
	var old []string
	for _, key := range sessions {
		ttl, err := c.TTL(ctx, key).Result()
		if err != nil {
			return err
		}
		if 0 < ttl && ttl < maxSessionTTL {
			old = append(old, key)
		}
	}
	if len(old) == 0 {
		return nil
	}
	return c.Del(ctx, old...).Err()
}

// pipelineLength is how many commands redis-py's users put into a pipeline.
const pipelineLength = 1000

// runPipelines does what a script with redis-py does: SCAN, PTTLs in a pipeline, UNLINKs in a pipeline. It walks once
// for both families and asks for TTLs only where one decides.
func runPipelines(ctx context.Context, args []string) error {
	c := peerClient(args[0])
	defer c.Close()
	var sessions, doomed []string
	unlink := func(atLeast int) error {
		for len(doomed) >= atLeast && len(doomed) > 0 {
			n := min(pipelineLength, len(doomed))
			pipe := c.Pipeline()
			for _, key := range doomed[:n] {
				pipe.Unlink(ctx, key)
			}
			doomed = append(doomed[:0], doomed[n:]...)
			if _, err := pipe.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	ask := func(atLeast int) error {
		for len(sessions) >= atLeast && len(sessions) > 0 {
			n := min(pipelineLength, len(sessions))
			pipe := c.Pipeline()
			ttls := make([]*redis.DurationCmd, n)
			for i, key := range sessions[:n] {
				ttls[i] = pipe.PTTL(ctx, key)
			}
			if _, err := pipe.Exec(ctx); err != nil {
				return err
			}
			for i, ttl := range ttls {
				if 0 < ttl.Val() && ttl.Val() <= maxSessionTTL {
					doomed = append(doomed, sessions[i])
				}
			}
			sessions = append(sessions[:0], sessions[n:]...)
		}
		return unlink(pipelineLength)
	}
	for cursor := uint64(0); ; {
		keys, next, err := c.Scan(ctx, cursor, "", pipelineLength).Result()
		if err != nil {
			return err
		}
		for _, key := range keys {
			switch {
			case strings.HasPrefix(key, resultPrefix):
				doomed = append(doomed, key)
			case strings.HasPrefix(key, sessionPrefix):
				sessions = append(sessions, key)
			}
		}
		if err := ask(pipelineLength); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if err := ask(1); err != nil {
		return err
	}
	return unlink(1)
}

// floorScript does the whole job inside the server. Nobody else is served meanwhile, so nobody may use it; but nothing
// that talks to the server from outside can need less. Where checked it does what the policy says: a result goes only if
// its TTL is not above the lifetime, which takes reading it. Else every result goes whatever its TTL, a smaller job.
// Pages of 300 are the cheapest: larger ones are out of the processor's cache when their keys are unlinked. 31 keys a
// call are too, since Redis has the objects of so many words ready.
func floorScript(checked bool) string {
	result := `n = n + 1
      doomed[n] = key`
	if checked {
		result = fmt.Sprintf(`if call('PTTL', key) <= %d then
        n = n + 1
        doomed[n] = key
      end`, resultLifetime.Milliseconds())
	}
	return fmt.Sprintf(`local call, byte, sub, unpack = redis.call, string.byte, string.sub, unpack
local results, sessions, highest = '%s', '%s', %d
local r, s, first, other = #results, #sessions, byte(results), byte(sessions)
local cursor, gone = '0', 0
repeat
  local answer = call('SCAN', cursor, 'COUNT', 300)
  local keys, doomed, n = answer[2], {}, 0
  for i = 1, #keys do
    local key = keys[i]
    local initial = byte(key)
    if initial == first and sub(key, 1, r) == results then
      %s
    elseif initial == other and sub(key, 1, s) == sessions then
      local ttl = call('PTTL', key)
      if ttl > 0 and ttl <= highest then
        n = n + 1
        doomed[n] = key
      end
    end
  end
  for i = 1, n, 31 do gone = gone + call('UNLINK', unpack(doomed, i, math.min(i + 30, n))) end
  cursor = answer[1]
until cursor == '0'
return gone`, resultPrefix, sessionPrefix, maxSessionTTL.Milliseconds(), result)
}
