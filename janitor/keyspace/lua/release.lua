-- Gives the lease back, if it is still ours. KEYS: 1 the lease. ARGV: 1 token
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
