-- Pause or resume a trigger. One that is resumed tries at once, and goes on from its place.
-- ARGV: name, 'p' or 'a', cron's place when it is resumed ('' for other kinds)
-- Returns its definition, or false when there is no such trigger.
local name, flag, at = unpack(ARGV)
local record = redis.call('HGET', 'fb:triggers', name)
if not record then return false end
if string.sub(record, 17, 17) ~= flag then
  record = string.sub(record, 1, 16) .. flag .. string.sub(record, 18)
  redis.call('HSET', 'fb:triggers', name, record)
  if flag == 'a' and at ~= '' then redis.call('HSET', 'fb:trigger:' .. name, 'at_s', at) end
end
redis.call(flag == 'p' and 'SADD' or 'SREM', 'fb:triggers:paused', name)
if flag == 'a' then
  redis.call('SREM', 'fb:triggers:failing', name)
  redis.call('HDEL', 'fb:trigger:' .. name, 'error', 'failures', 'retry_at_s')
end
redis.call('INCR', 'fb:triggers:version')
return record
