-- Make a version the latest. ARGV: name, record; '%VERSION%' in the record becomes its number.
-- Returns the number.
local key = 'fb:function:' .. ARGV[1]
local version = redis.call('HINCRBY', key, 'next', 1)
redis.call('HSET', key, 'v:' .. version, (string.gsub(ARGV[2], '"%%VERSION%%"', version)), 'latest', version)
redis.call('SADD', 'fb:functions', ARGV[1])
-- a function of this name may have been removed a while ago
redis.call('PERSIST', 'fb:stats:' .. ARGV[1])
redis.call('PERSIST', 'fb:log:' .. ARGV[1])
return version
