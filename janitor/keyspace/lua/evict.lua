-- Unlinks those of the given keys that still qualify, and says what became of each.
-- No shebang: a script with one is refused as a whole while Redis is out of memory.
--
-- KEYS: the n keys, then the lease and the cooldown (the janitor's own, in DB 0)
-- ARGV: 1 n, 2 DB of the keys, 3 keys without TTL go (1/0), 4 highest remaining TTL that goes in ms
--       (-1: none), 5 least idle seconds (0: no rule), 6 measure each so-many-th key (0: none),
--       7 bytes after which the batch ends (0: no end), 8 assumed bytes of a key not measured,
--       9 lease token ("": no lease), 10 cooldown in ms (0: none), 11 value of the cooldown
local n, db = tonumber(ARGV[1]), ARGV[2]
local persistent, highest, idle = ARGV[3] == '1', tonumber(ARGV[4]), tonumber(ARGV[5])
local stride, budget, assumed = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local token, cooldown = ARGV[9], tonumber(ARGV[10])

-- SELECT inside a script lasts until the script's end, and only where it is needed: a cluster refuses it.
local function own(call)
  if db ~= '0' then redis.call('SELECT', 0) end
  local answer = call()
  if db ~= '0' then redis.call('SELECT', db) end
  return answer
end

-- The fence: a janitor that stalled past its lease must not delete beside its successor.
if token ~= '' then
  local holder = own(function() return redis.pcall('HGET', KEYS[n + 1], 'token') end)
  if holder ~= token then return {'fenced'} end
end

local outcome, measured, bytes, spent, failure, gone = {}, 0, 0, 0, '', 0
for i = 1, n do
  local key = KEYS[i]
  local ttl = redis.call('PTTL', key)
  local goes
  if ttl == -1 then goes = persistent else goes = ttl >= 0 and ttl <= highest end
  if goes and idle > 0 then
    local seconds = redis.pcall('OBJECT', 'IDLETIME', key)
    goes = type(seconds) == 'number' and seconds >= idle
  end
  if ttl == -2 then
    outcome[i] = 'v'
  elseif not goes then
    outcome[i] = 'r'
  else
    local size = assumed
    if stride > 0 and i % stride == 0 then
      local told = redis.pcall('MEMORY', 'USAGE', key)
      if type(told) == 'number' then
        size = told
        measured = measured + 1
        bytes = bytes + told
      end
    end
    -- The first key always goes, whatever its size: a batch must get on.
    if budget > 0 and spent > 0 and spent + size > budget then
      for j = i, n do outcome[j] = 'd' end
      break
    end
    local answer = redis.pcall('UNLINK', key)
    if type(answer) == 'table' and answer.err then
      -- What refuses one deletion refuses the rest: stop here, and let the caller read why.
      failure = answer.err
      outcome[i] = 'f'
      for j = i + 1, n do outcome[j] = 'd' end
      break
    end
    spent = spent + size
    gone = gone + answer
    outcome[i] = answer == 1 and 'e' or 'v'
  end
end

-- After a deletion the script may write even where Redis is out of memory.
if gone > 0 and cooldown > 0 then
  own(function() return redis.pcall('SET', KEYS[n + 2], ARGV[11], 'PX', cooldown) end)
end
return {'done', table.concat(outcome), measured, bytes, failure}
