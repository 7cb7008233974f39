-- Keep progress of a running job, under its current fence.
-- ARGV: result ttl, id, fence, number of the progress, data, entries kept
-- Returns 1, or 0 where the fence is old or the job has settled.
local ttl_s, id, fence, number, data, most = unpack(ARGV)
local key, events = job_key(id), 'fb:events:' .. id
local job = redis.call('HMGET', key, 'status', 'fence', 'followers', 'progress')
if job[1] ~= 'running' or job[2] ~= fence then return 0 end
local entry = fence .. '-' .. number
-- else this very progress, sent again after a broken connection
if job[4] ~= entry then
  redis.call('XADD', events, 'MAXLEN', most, entry, 'd', data)
  redis.call('EXPIRE', events, ttl_s)
  redis.call('HSET', key, 'progress', entry)
  nudge(id, job[3])
end
return 1
