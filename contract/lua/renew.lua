-- Prolong the leases of a worker's jobs.
-- ARGV: lease end, then per job: id, fence
-- Returns the ids whose fence is old: the worker has lost them.
local lost = {}
for i = 2, #ARGV, 2 do
  local job = redis.call('HMGET', job_key(ARGV[i]), 'status', 'fence')
  if job[1] == 'running' and job[2] == ARGV[i + 1] then
    redis.call('ZADD', 'fb:leases', ARGV[1], ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
