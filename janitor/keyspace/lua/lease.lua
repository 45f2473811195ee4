-- Takes or renews the lease, or tells who holds it. role.lua stands before it.
-- KEYS: 1 the lease. ARGV: 1 token, 2 lease in ms, 3 holder, 4 since, 5 renew only (1/0)
-- One taken on a replica would hold nobody off, and say of ours that it stands.
if replica() then return redis.error_reply(demoted) end
local held = redis.call('HGETALL', KEYS[1])
local fields = {}
for i = 1, #held, 2 do fields[held[i]] = held[i + 1] end
if #held > 0 and (not fields.token or redis.call('PTTL', KEYS[1]) < 0) then
  -- A lease has a token and runs out. Whatever this is, it is not ours to change, or to wait for.
  return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is in use for something else')
end
if fields.token and fields.token ~= ARGV[1] then
  return {'held', fields.holder or '', fields.since or '', redis.call('PTTL', KEYS[1])}
end
if not fields.token and ARGV[5] == '1' then return {'lost', '', '', 0} end
-- While Redis is out of memory a script's first write must be one that needs none. On a missing key
-- this one does nothing, and lets the rest pass.
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'holder', ARGV[3], 'since', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'ours', ARGV[3], ARGV[4], tonumber(ARGV[2])}
