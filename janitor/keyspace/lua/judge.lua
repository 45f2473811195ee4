-- The beginning of evict.lua and of capture.lua: what lets a key go must be the same for both.
-- No shebang: a script with one is refused as a whole while Redis is out of memory.
local pcall, type, unpack = redis.pcall, type, unpack

-- judge says whether a key goes: e it does, v it was gone before, f Redis refused to tell (and how); r it
-- doesn't qualify any more, or where it has not been judged before (lifetime >= 0): n no TTL, l TTL above the
-- lifetime, o too young, i not idle, k idle time unknown.
local function judge(key, persistent, highest, idle, lifetime)
  local judging = lifetime >= 0
  local ttl = pcall('PTTL', key)
  if type(ttl) == 'table' then return 'f', ttl.err, nil end
  if ttl == -2 then return 'v', '', ttl end
  if ttl == -1 then
    if not persistent then return judging and 'n' or 'r', '', ttl end
  elseif ttl > highest then
    return judging and (ttl > lifetime and 'l' or 'o') or 'r', '', ttl
  end
  if idle > 0 then
    local seconds = pcall('OBJECT', 'IDLETIME', key)
    if type(seconds) ~= 'number' then return judging and 'k' or 'r', '', ttl end
    if seconds < idle then return judging and 'i' or 'r', '', ttl end
  end
  return 'e', '', ttl
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
