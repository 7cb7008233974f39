-- Give queued jobs to a worker as one group. Only the active scheduler may.
-- ARGV: leader's token, worker, group, lease end, then per job: id, note of why it waited
-- Returns per job its fence, 0 where it is no longer queued; false when another scheduler leads.
local token, worker, group, lease_end = unpack(ARGV, 1, 4)
if redis.call('GET', 'fb:leader:scheduler') ~= token then return false end
local fences, claimed = {}, false
for i = 5, #ARGV, 2 do
  local id, planned = ARGV[i], ARGV[i + 1]
  local key = job_key(id)
  local job = redis.call('HMGET', key, 'status', 'function', 'group', 'fence', 'followers')
  if job[1] == 'queued' then
    unqueue(key, job[2])
    redis.call('HSET', key, 'status', 'running', 'worker', worker, 'group', group,
      'planned', planned)
    redis.call('HINCRBY', key, 'attempts', 1)
    redis.call('ZADD', 'fb:leases', lease_end, id)
    fences[#fences + 1] = redis.call('HINCRBY', key, 'fence', 1)
    nudge(id, job[5])
    claimed = true
  elseif job[1] == 'running' and job[3] == group then
    -- this very claim, sent again after a broken connection
    fences[#fences + 1] = tonumber(job[4])
    claimed = true
  else
    fences[#fences + 1] = 0
  end
end
if claimed then
  redis.call('HSET', 'fb:groups', group, worker)
  -- one that has left meanwhile is found missing, and its jobs come back at once
  redis.call('SADD', 'fb:workers', worker)
end
return fences
