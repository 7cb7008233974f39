-- Read a job with its notes and, unless it has settled, have its outcome published to a gateway.
-- ARGV: id, gateway
local key = job_key(ARGV[1])
local job = redis.call('HMGET', key, 'spec', 'status', 'attempts', 'outcome', 'ahead',
  'planned', 'ran', 'worker', 'group', 'origin', 'waiters')
if job[2] == 'queued' or job[2] == 'running' then
  local waiters = job[11] or ''
  if not string.find(' ' .. waiters .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
    redis.call('HSET', key, 'waiters', waiters .. ' ' .. ARGV[2])
  end
end
job[11] = nil
return job
