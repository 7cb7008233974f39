-- Take an ended job out of the outbox: its deliveries wait in their lanes from now on, and where
-- nobody waited for a job that failed for good, it becomes a dead letter.
-- ARGV: now, entry of the outbox, job, result ttl, reason ('' unless it is a dead letter),
--       letters at most, their bytes at most, then per delivery: lane, record
-- Returns 1 when this did it, 0 where it was done before.
local now, entry, id, ttl_s, reason, max_letters, max_bytes = unpack(ARGV, 1, 7)
if redis.call('XDEL', 'fb:outbox', entry) == 0 then return 0 end
local key = job_key(id)
if redis.call('EXISTS', key) == 0 then return 0 end
if reason ~= '' then bury(id, key, now, reason, '', max_letters, max_bytes) end
redis.call('HSET', key, 'ttl', ttl_s, 'left', (#ARGV - 7) / 2)
for i = 8, #ARGV, 2 do
  local lane, number = ARGV[i], (i - 8) / 2
  redis.call('HSET', key, 'd:' .. number, ARGV[i + 1])
  redis.call('ZADD', 'fb:due:' .. lane, now, id .. ' ' .. number)
  set_due(lane)
end
if #ARGV == 7 then end_telling(key) end
return 1
