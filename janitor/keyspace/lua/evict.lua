-- Unlinks those of the given keys that still qualify, and says what became of each.
-- No shebang: a script with one is refused as a whole while Redis is out of memory.
--
-- KEYS: the n keys, then the lease (where there is a token), then the cooldown (where there is one):
--       a user who may not touch the janitor's own keys must still be able to evict
-- ARGV: 1 n, 2 DB of the keys, 3 keys without TTL go (1/0), 4 highest remaining TTL that goes in ms
--       (-1: none), 5 least idle seconds (0: no rule), 6 measure each so-many-th key (0: none),
--       7 bytes after which the batch ends (0: no end), 8 assumed bytes of a key not measured,
--       9 lease token ("": no lease), 10 cooldown in ms (0: none), 11 value of the cooldown
local pcall, type = redis.pcall, type
local n, db = tonumber(ARGV[1]), ARGV[2]
local persistent, highest, idle = ARGV[3] == '1', tonumber(ARGV[4]), tonumber(ARGV[5])
local stride, budget, assumed = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local token, cooldown = ARGV[9], tonumber(ARGV[10])

-- The fence: a janitor that stalled past its lease must not delete beside its successor. An error
-- may still end the script here; from the first deletion on none may, for it would hide what is gone.
if token ~= '' then
  -- SELECT lasts until the script's end, and is sent only where it is needed: a cluster refuses it.
  if db ~= '0' then redis.call('SELECT', 0) end
  if redis.call('HGET', KEYS[n + 1], 'token') ~= token then return {'fenced'} end
  if db ~= '0' then redis.call('SELECT', db) end
end

local fates, measured, bytes, spent, gone, refusal = {}, 0, 0, 0, 0, ''
for i = 1, n do
  local key = KEYS[i]
  local answer, fate = pcall('PTTL', key), 'r'
  if answer == -2 then
    fate = 'v'
  elseif type(answer) == 'table' then
    fate = 'f'
  elseif answer == -1 and persistent or answer >= 0 and answer <= highest then
    local goes, size, told = true, assumed, nil
    if idle > 0 then
      local seconds = pcall('OBJECT', 'IDLETIME', key)
      goes = type(seconds) == 'number' and seconds >= idle
    end
    if goes and stride > 0 and i % stride == 0 then
      told = pcall('MEMORY', 'USAGE', key)
      if type(told) == 'number' then size = told else told = nil end
    end
    if goes and budget > 0 and spent > 0 and spent + size > budget then
      -- The first key always goes, whatever its size: a batch must get on.
      for j = i, n do fates[j] = 'd' end
      break
    end
    if goes then
      answer = pcall('UNLINK', key)
      if answer == 1 then
        fate = 'e'
        gone, spent = gone + 1, spent + size
        if told then measured, bytes = measured + 1, bytes + told end
      elseif answer == 0 then
        fate = 'v'
      else
        fate = 'f'
      end
    end
  end
  fates[i] = fate
  if fate == 'f' then
    -- What refuses one key refuses the rest: stop here, and let the caller read why.
    refusal = answer.err
    for j = i + 1, n do fates[j] = 'd' end
    break
  end
end

-- After a deletion the script may write even where Redis is out of memory.
if gone > 0 and cooldown > 0 then
  local there = db == '0' or pcall('SELECT', 0).ok
  if there then pcall('SET', KEYS[#KEYS], ARGV[11], 'PX', cooldown) end
end
return {'done', table.concat(fates), measured, bytes, refusal}
