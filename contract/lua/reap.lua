-- Re-queue running jobs: those whose lease ran out, or all of a worker that is gone or hands back.
-- ARGV: now, attempts at most, result ttl, outcome of a lost job, worker or '', 1 to give back the attempt
-- Returns {re-queued ids, failed ids}.
local now, max_attempts, ttl_s, lost, worker, is_handed_back = unpack(ARGV, 1, 6)
local ids = worker ~= '' and redis.call('ZRANGE', 'fb:leases', 0, -1)
  or redis.call('ZRANGEBYSCORE', 'fb:leases', '-inf', now)
local queued, failed = {}, {}
for _, id in ipairs(ids) do
  local key = job_key(id)
  local job = redis.call('HMGET', key, 'worker', 'attempts', 'function', 'spec', 'followers')
  if worker == '' or job[1] == worker then
    if is_handed_back == '1' then redis.call('HINCRBY', key, 'attempts', -1) end
    if is_handed_back == '0' and tonumber(job[2]) >= tonumber(max_attempts) then
      settle(id, 'failed', lost, ttl_s)
      failed[#failed + 1] = id
    else
      redis.call('ZREM', 'fb:leases', id)
      redis.call('HDEL', key, 'worker', 'group')
      queue(key, id, job[3], job[4])
      nudge(id, job[5])
      queued[#queued + 1] = id
    end
  end
end
send_mail()
if worker ~= '' then
  local groups = redis.call('HGETALL', 'fb:groups')
  for i = 1, #groups, 2 do
    if groups[i + 1] == worker then redis.call('HDEL', 'fb:groups', groups[i]) end
  end
  signal('worker', worker)
end
return {queued, failed}
