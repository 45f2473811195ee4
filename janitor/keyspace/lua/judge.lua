-- The beginning of evict.lua and of capture.lua: what lets a key go must be the same for both.
-- No shebang: a script with one is refused as a whole while Redis is out of memory.
local try, pcall, call, type, unpack = pcall, redis.pcall, redis.call, type, unpack

-- judge says whether a key goes that has this TTL, as PTTL answered: e it does, v it was gone before, f Redis
-- refused to tell (and how); r it doesn't qualify any more, or where it has not been judged before
-- (lifetime >= 0): n no TTL, l TTL above the lifetime, o too young, i not idle, k idle time unknown.
local function judge(key, ttl, persistent, highest, idle, lifetime)
  local judging = lifetime >= 0
  if type(ttl) == 'table' then return 'f', ttl.err end
  if ttl == -2 then return 'v', '' end
  if ttl == -1 then
    if not persistent then return judging and 'n' or 'r', '' end
  elseif ttl > highest then
    return judging and (ttl > lifetime and 'l' or 'o') or 'r', ''
  end
  if idle > 0 then
    local seconds = pcall('OBJECT', 'IDLETIME', key)
    if type(seconds) ~= 'number' then return judging and 'k' or 'r', '' end
    if seconds < idle then return judging and 'i' or 'r', '' end
  end
  return 'e', ''
end

-- expiry is when a key with this TTL expires, in Unix milliseconds, -1 for never; or an error.
local function expiry(key, ttl, told)
  if ttl == -1 then return -1 end
  if told then return pcall('PEXPIRETIME', key) end
  -- Before 7.0 nobody tells it. Where the clock reads the same before and after the TTL is read, it is exact.
  local before = pcall('TIME')
  if before.err then return before end
  for _ = 1, 9 do
    ttl = pcall('PTTL', key)
    local after = pcall('TIME')
    if before[1] == after[1] and math.floor(before[2] / 1000) == math.floor(after[2] / 1000) then break end
    before = after
  end
  return before[1] * 1000 + math.floor(before[2] / 1000) + ttl
end
