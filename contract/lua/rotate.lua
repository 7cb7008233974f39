-- Make a new secret of webhooks the one that is used first; the last one is valid for a while.
-- ARGV: new secret, end of the old one in Unix seconds
local key = 'fb:webhooks'
local old = redis.call('HGET', key, 'secret')
if old then redis.call('HSET', key, 'last', old, 'last_until', ARGV[2]) end
redis.call('HSET', key, 'secret', ARGV[1])
return 1
