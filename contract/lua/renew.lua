-- Prolong the leases of a worker's jobs.
-- ARGV: lease end, then per job: id, fence
-- Returns the ids that the worker has lost: given to another, back in the queue, or cancelled.
-- One that settled under this very fence is not lost; its worker just does not know yet.
local lost = {}
for i = 2, #ARGV, 2 do
  local job = redis.call('HMGET', job_key(ARGV[i]), 'status', 'fence')
  if job[2] ~= ARGV[i + 1] or job[1] == 'queued' or job[1] == 'cancelled' then
    lost[#lost + 1] = ARGV[i]
  elseif job[1] == 'running' then
    redis.call('ZADD', 'fb:leases', ARGV[1], ARGV[i])
  end
end
return lost
