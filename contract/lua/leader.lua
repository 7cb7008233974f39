-- Take or keep a role. ARGV: role, token, lease in milliseconds. Returns 1 when held.
local key = 'fb:leader:' .. ARGV[1]
local holder = redis.call('GET', key)
if holder and holder ~= ARGV[2] then return 0 end
redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
return 1
