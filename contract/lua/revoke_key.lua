-- Remove an API key and what is known of its use.
-- ARGV: id
-- Returns its record, or false when there is no such key.
local record = redis.call('HGET', 'fb:keys', ARGV[1])
redis.call('HDEL', 'fb:keys', ARGV[1])
redis.call('HDEL', 'fb:keys:used', ARGV[1])
return record
