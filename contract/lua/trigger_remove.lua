-- Remove a trigger, its place, and the consumer group of its stream.
-- ARGV: name, stream ('' for none), group
-- Returns its definition, or false when there is no such trigger.
local name, stream, group = unpack(ARGV)
local record = redis.call('HGET', 'fb:triggers', name)
if not record then return false end
if stream ~= '' and redis.call('EXISTS', stream) == 1 then
  redis.pcall('XGROUP', 'DESTROY', stream, group)
end
redis.call('HDEL', 'fb:triggers', name)
redis.call('SREM', 'fb:triggers:paused', name)
redis.call('SREM', 'fb:triggers:failing', name)
redis.call('DEL', 'fb:trigger:' .. name, 'fb:trigger:' .. name .. ':files')
redis.call('INCR', 'fb:triggers:version')
return record
