-- Unlinks those of the given keys that still qualify, and says what became of each. role.lua and judge.lua stand before it.
--
-- KEYS: the n keys, then the lease (where there is a token), then the cooldown (where there is one):
--       a user who may not touch the janitor's own keys must still be able to evict
-- ARGV: 1 n, 2 DB of the keys, 3 keys without TTL go (1/0), 4 highest remaining TTL that goes in ms
--       (-1: none), 5 least idle seconds (0: no rule), 6 measure each so-many-th key (0: none),
--       7 bytes after which the batch ends (0: no end), 8 assumed bytes of a key not measured,
--       9 lease token ("": no lease), 10 cooldown in ms (0: none), 11 value of the cooldown,
--       12 lifetime in ms where the keys have not been judged before (-1: they have),
--       13 tell each key's PTTL and size (1/0), 14 whether a key only goes as a capsule holds it ("": no;
--       1/0: the server knows PEXPIRETIME), 15 look at the server's role (1/0: a cluster's replica redirects by
--       itself), then for each key what a capsule holds
-- Fates: judge's, where e means evicted and r also that the key isn't any more as a capsule holds it; d not tried
local n, db = tonumber(ARGV[1]), ARGV[2]
local persistent, highest, idle = ARGV[3] == '1', tonumber(ARGV[4]), tonumber(ARGV[5])
local stride, budget, assumed = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local token, cooldown = ARGV[9], tonumber(ARGV[10])
local lifetime, bound = tonumber(ARGV[12]), ARGV[14]
local tell, ttls, told = ARGV[13] == '1', {}, {}

-- Asked in the same moment as the deletion: REPLICAOF may come between any two commands.
if ARGV[15] == '1' and replica() then return redis.error_reply(demoted) end

-- The fence: a janitor that stalled past its lease must not delete beside its successor. An error
-- may still end the script here; from the first deletion on none may, for it would hide what is gone.
if token ~= '' then
  -- SELECT lasts until the script's end, and is sent only where it is needed: a cluster refuses it.
  if db ~= '0' then redis.call('SELECT', 0) end
  if redis.call('HGET', KEYS[n + 1], 'token') ~= token then return {'fenced'} end
  if db ~= '0' then redis.call('SELECT', db) end
end

-- First judge, then delete what goes: of a small value a call costs more than what it does. What a key costs here is a
-- good part of what its deletion costs, so the usual is kept short: fates holds those keys only that do not go, and
-- KEYS itself is the list of those that do, until one doesn't.
local fates, chosen, count, last, sizes, spent, refusal = {}, KEYS, 0, n, {}, 0, ''
local function stays(i, fate)
  if chosen == KEYS then
    chosen = {}
    for j = 1, count do chosen[j] = KEYS[j] end
  end
  fates[i] = fate
end
local function goes(key)
  count = count + 1
  if chosen ~= KEYS then chosen[count] = key end
end

-- A rule that asks for nothing but a TTL is done with most keys after one comparison; everything else is for judge.
local plain = idle == 0 and bound == '' and not tell and stride ~= 1
plain = plain and try(function()
  for i = 1, n do
    local key = KEYS[i]
    local ttl = call('PTTL', key)
    if ttl >= 0 and ttl <= highest then
      count = count + 1
      if chosen ~= KEYS then chosen[count] = key end
    else
      local fate = judge(key, ttl, persistent, highest, 0, lifetime)
      if fate == 'e' then goes(key) else stays(i, fate) end
    end
  end
  local beyond = 0 -- bytes that were measured beyond those assumed
  local function fit() return budget > 0 and assumed > 0 and math.max(1, math.floor((budget - beyond) / assumed)) or count end
  local room = fit() -- how many keys go
  if stride > 0 then
    for k = stride, math.min(count, room), stride do
      local size = call('MEMORY', 'USAGE', chosen[k], 'SAMPLES', 64)
      if size then
        if budget > 0 and k > 1 and (k - 1) * assumed + beyond + size > budget then
          room = math.min(fit(), k - 1)
          break
        end
        beyond, sizes[chosen[k]] = beyond + size - assumed, size
        room = fit()
      end
    end
  end
  if room < count then
    -- What comes behind them stays for the next batch.
    count, last = room, room
    if chosen ~= KEYS then
      local place = 0
      for i = 1, n do
        if not fates[i] then place = place + 1 end
        if place == room then
          last = i
          break
        end
      end
    end
  end
end)
if not plain then
  -- Also where something was refused above: nothing is deleted yet, and here it is told of which key.
  fates, chosen, count, last, sizes = {}, KEYS, 0, n, {}
  for i = 1, n do
    local key = KEYS[i]
    local ttl = pcall('PTTL', key)
    local fate, why = judge(key, ttl, persistent, highest, idle, lifetime)
    if tell then ttls[i], told[i] = type(ttl) == 'number' and ttl or '', '' end
    if fate == 'e' and bound ~= '' then
      local value, at = pcall('DUMP', key), expiry(key, ttl, bound == '1')
      if type(value) == 'table' or type(at) == 'table' then
        fate, why = 'f', type(value) == 'table' and value.err or at.err
      elseif not value or redis.sha1hex(value) .. ' ' .. string.format('%.0f', at) ~= ARGV[15 + i] then
        fate = 'r'
      end
    end
    if fate == 'e' then
      local size = assumed
      if stride > 0 and i % stride == 0 then
        local usage = pcall('MEMORY', 'USAGE', key, 'SAMPLES', 64)
        if type(usage) == 'number' then size, sizes[key] = usage, usage end
      end
      if budget > 0 and spent > 0 and spent + size > budget then
        -- The first key always goes, whatever its size: a batch must get on.
        sizes[key], last = nil, i - 1
        break
      end
      spent = spent + size
      goes(key)
    else
      stays(i, fate)
      if fate == 'f' then
        -- What refuses one key refuses the rest: stop here, and let the caller read why.
        refusal, last = why, i
        break
      end
    end
  end
end

-- Redis has the objects of a short command's words ready (script.c, scriptCall; LUA_CMD_OBJCACHE_SIZE is 32), and makes
-- those of a long one anew: many short ones cost less.
local few, gone, failed = 31, 0, 0
for first = 1, count, few do
  local answer = pcall('UNLINK', unpack(chosen, first, math.min(first + few - 1, count)))
  if type(answer) == 'number' then
    gone = gone + answer
  else
    failed = first
    break
  end
end
if failed > 0 then
  -- Refused as a whole, perhaps for one key that this user may not touch: go up to that one.
  local place = 0
  for i = 1, last do
    if not fates[i] then
      place = place + 1
      if refusal ~= '' then
        fates[i] = 'd'
      elseif place >= failed then
        local answer = pcall('UNLINK', KEYS[i])
        if type(answer) ~= 'number' then
          fates[i], refusal = 'f', answer.err
        else
          gone = gone + answer
          if answer == 0 then fates[i] = 'v' end
        end
      end
    end
  end
elseif gone < count then
  -- SCAN may have given a key twice. UNLINK counts it once, and not knowing which one it means would tell of
  -- another key that it was not ours.
  local left, named = gone, {}
  for i = 1, last do
    if not fates[i] then
      -- A script's clock stands still, so what had a TTL above is still there. Were one not, it is gone all the
      -- same, and not by us.
      if named[KEYS[i]] or left == 0 then fates[i] = 'v' else left = left - 1 end
      named[KEYS[i]] = true
    end
  end
end
local measured, bytes = 0, 0
if next(sizes) then
  for i = 1, last do
    local size = sizes[KEYS[i]]
    if size and not fates[i] then measured, bytes = measured + 1, bytes + size end
    if size and tell then told[i] = size end
  end
end

-- After a deletion the script may write even where Redis is out of memory.
local unmarked = ''
if gone > 0 and cooldown > 0 then
  local set = db == '0' or pcall('SELECT', 0)
  if set == true or set.ok then
    -- GET (Redis 6.2) has SET refuse to take the place of what is not a string, and so not ours.
    set = pcall('SET', KEYS[#KEYS], ARGV[11], 'PX', cooldown, 'GET')
    if type(set) == 'table' and set.err and not string.find(set.err, 'WRONGTYPE', 1, true) then
      set = pcall('SET', KEYS[#KEYS], ARGV[11], 'PX', cooldown)
    end
  end
  if type(set) == 'table' and set.err then unmarked = set.err end
end
local all
if next(fates) then
  for i = 1, n do fates[i] = fates[i] or i > last and 'd' or 'e' end
  all = table.concat(fates)
else
  all = string.rep('e', last) .. string.rep('d', n - last)
end
-- Of one number the embedded Redis's concat makes that number, and not a string.
return {'done', all, measured, bytes, refusal, unmarked, table.concat(ttls, ' ') .. '', table.concat(told, ' ') .. ''}
