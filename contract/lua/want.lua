-- Note where a version's weights should be. An older want for it is replaced, old unloads are forgotten.
-- ARGV: name, version or 0 for the latest, 'loaded' or 'unloaded', Unix seconds, seconds that an
-- unload is remembered, most versions. Returns {version, number}; 0: unknown; -1: too many.
local key, version = 'fb:function:' .. ARGV[1], ARGV[2]
if version == '0' then version = redis.call('HGET', key, 'latest') end
if not version or redis.call('HEXISTS', key, 'v:' .. version) == 0 then return {0, 0} end
local wanted = redis.call('HGETALL', 'fb:wanted')
local left = 0
for i = 1, #wanted, 2 do
  local state, at = string.match(wanted[i + 1], '^%d+ (%a+) (.+)$')
  if state == 'unloaded' and tonumber(at) + tonumber(ARGV[5]) < tonumber(ARGV[4]) then
    redis.call('HDEL', 'fb:wanted', wanted[i])
  else
    left = left + 1
  end
end
local ref = ARGV[1] .. '@' .. version
if left >= tonumber(ARGV[6]) and redis.call('HEXISTS', 'fb:wanted', ref) == 0 then return {-1, 0} end
local number = redis.call('INCR', 'fb:wanted:last')
redis.call('HSET', 'fb:wanted', ref, number .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
return {tonumber(version), number}
