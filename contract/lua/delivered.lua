-- Note an attempt of a delivery; where it was the last one, the delivery leaves its lane.
-- ARGV: now, job, number, lane, record, next try ('' for none), reason ('' unless it is given up),
--       letters at most, their bytes at most, stream to write to ('' for none), its event,
--       length of the stream at most, seconds that it is kept after its last entry
-- Returns 1; 0 where the delivery was over before; an error where the stream takes nothing.
local now, id, number, lane, record, next_at, reason, max_letters, max_bytes = unpack(ARGV, 1, 9)
local stream, event, length, stream_ttl_s = unpack(ARGV, 10, 13)
local key, waiting, member = job_key(id), 'fb:due:' .. lane, id .. ' ' .. number
if not redis.call('ZSCORE', waiting, member) then return 0 end
if redis.call('EXISTS', key) == 0 then
  redis.call('ZREM', waiting, member)
  set_due(lane)
  return 0
end
if stream ~= '' then
  -- in this very move, so that it is there exactly once
  local added = redis.pcall('XADD', stream, 'MAXLEN', '~', length, '*', 'event', event)
  if type(added) == 'table' and added.err then return redis.error_reply(added.err) end
  redis.call('EXPIRE', stream, stream_ttl_s)
end
redis.call('HSET', key, 'd:' .. number, record)
if next_at ~= '' then
  redis.call('ZADD', waiting, next_at, member)
else
  redis.call('ZREM', waiting, member)
  redis.call('HINCRBY', 'fb:counters', reason == '' and 'deliveries:delivered' or 'deliveries:given_up', 1)
  if reason ~= '' then
    bury(id .. '-' .. number, key, now, reason, number, max_letters, max_bytes)
  end
  if redis.call('HINCRBY', key, 'left', -1) <= 0 then end_telling(key) end
end
set_due(lane)
return 1
