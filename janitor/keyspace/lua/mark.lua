-- Sets a cluster's node's cooldown, which lies in a slot of its own and so in no deletion's script.
-- KEYS: 1 the cooldown. ARGV: 1 value, 2 cooldown in ms
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'string' then return 0 end
-- While Redis is out of memory a script's first write must be one that needs none.
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
