-- Remove an alias. ARGV: function, alias. Returns its record, or false where there is none.
local key, field = 'fb:function:' .. ARGV[1], 'a:' .. ARGV[2]
local record = redis.call('HGET', key, field)
redis.call('HDEL', key, field)
return record
