-- The beginning of evict.lua and of lease.lua: a server that follows another one is nobody's to write to, and where
-- replica-read-only is off it refuses nothing by itself. Where a script may not ask, it can't be told here.
local function replica()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and string.find(info, 'role:slave', 1, true) ~= nil
end
local demoted = 'READONLY it is a replica, and a replica is never written to'

