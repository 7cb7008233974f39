-- Write what the active scheduler has learned; only it may.
-- ARGV: leader's token, number of changed fields, then field and value of each, then fields to drop
-- Returns whether it was written.
if redis.call('GET', 'fb:leader:scheduler') ~= ARGV[1] then return 0 end
local last = 2 + 2 * tonumber(ARGV[2])
for i = 3, last, 2 do redis.call('HSET', 'fb:costs', ARGV[i], ARGV[i + 1]) end
for i = last + 1, #ARGV do redis.call('HDEL', 'fb:costs', ARGV[i]) end
return 1
