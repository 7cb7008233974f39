-- Read a job with its progress and, unless it has settled, have a gateway told when there is more.
-- ARGV: id, gateway, the event after which progress is wanted, entries at most
-- Returns {fields as `watch` has them and the fence, entries of its progress}.
local key = job_key(ARGV[1])
local job = redis.call('HMGET', key, 'spec', 'status', 'attempts', 'outcome', 'ahead',
  'planned', 'ran', 'worker', 'group', 'origin', 'fence', 'followers')
if job[2] == 'queued' or job[2] == 'running' then
  local followers = job[12] or ''
  if not string.find(' ' .. followers .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
    redis.call('HSET', key, 'followers', followers .. ' ' .. ARGV[2])
  end
end
job[12] = nil
return {job, redis.call('XRANGE', 'fb:events:' .. ARGV[1], '(' .. ARGV[3], '+', 'COUNT', ARGV[4])}
