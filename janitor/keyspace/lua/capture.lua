-- Reads the values of those of the given keys that qualify to be evicted. It deletes nothing. Idle times are
-- judged here and not again: DUMP begins them anew.
--
-- KEYS: the keys
-- ARGV: 1 keys without TTL go (1/0), 2 highest remaining TTL that goes in ms (-1: none), 3 least idle seconds
--       (0: no rule), 4 lifetime in ms where the keys have not been judged before (-1: they have), 5 bytes after
--       which the batch ends, 6 bytes of the largest value that is read, 7 the server knows PEXPIRETIME (1/0)
-- Fates: judge's, where e means that the value was read; b too large, d not tried
local persistent, highest, idle = ARGV[1] == '1', tonumber(ARGV[2]), tonumber(ARGV[3])
local lifetime, budget, largest, told = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'

local fates, values, ttls, spent, refusal = {}, {}, {}, 0, ''
for i = 1, #KEYS do
  local key = KEYS[i]
  local ttl = pcall('PTTL', key)
  local fate, why = judge(key, ttl, persistent, highest, idle, lifetime)
  ttls[i] = type(ttl) == 'number' and ttl or ''
  if fate == 'e' then
    -- Asked before the value is read: reading a large one holds the server for as long as it takes.
    local size = pcall('MEMORY', 'USAGE', key, 'SAMPLES', 64)
    if type(size) == 'table' then
      fate, why = 'f', size.err
    elseif not size then
      fate = 'v'
    elseif size > largest then
      fate = 'b'
    elseif spent > 0 and spent + size > budget then
      fate = 'd'
    else
      spent = spent + size
      local kind, at, value = pcall('TYPE', key), expiry(key, ttl, told), pcall('DUMP', key)
      if kind.err then
        fate, why = 'f', kind.err
      elseif type(at) == 'table' then
        fate, why = 'f', at.err
      elseif type(value) == 'table' then
        fate, why = 'f', value.err
      elseif not value then
        fate = 'v'
      elseif #value > largest then
        fate = 'b'
      else
        values[#values + 1] = {kind.ok, at, ttl, value}
      end
    end
  end
  fates[i] = fate
  if fate == 'f' or fate == 'd' then
    refusal = why
    for j = i + 1, #KEYS do fates[j] = 'd' end
    break
  end
end
-- Of one number the embedded Redis's concat makes that number, and not a string.
return {'done', table.concat(fates), refusal, values, table.concat(ttls, ' ') .. ''}
