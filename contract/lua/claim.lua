-- Give queued jobs to workers as groups. Only the active scheduler may.
-- ARGV: leader's token, lease end, then per group: worker, its queue, the message it gets (none if
-- empty), group, number of jobs, and per job: id, note of why it waited
-- Returns per group its jobs' fences, 0 where one is no longer queued; false when another scheduler
-- leads.
local token, lease_end = ARGV[1], ARGV[2]
if redis.call('GET', 'fb:leader:scheduler') ~= token then return false end

-- Returns the job's fence, and whether it was queued until now.
local function claim(id, planned, worker, group)
  local key = job_key(id)
  local job = redis.call('HMGET', key, 'status', 'function', 'group', 'fence', 'followers')
  if job[1] == 'queued' then
    unqueue(key, job[2])
    redis.call('HSET', key, 'status', 'running', 'worker', worker, 'group', group,
      'planned', planned)
    redis.call('HINCRBY', key, 'attempts', 1)
    redis.call('ZADD', 'fb:leases', lease_end, id)
    local fence = redis.call('HINCRBY', key, 'fence', 1)
    nudge(id, job[5])
    return fence, true
  end
  -- this very claim, sent again after a broken connection
  if job[1] == 'running' and job[3] == group then return tonumber(job[4]), false end
  return 0, false
end

local groups = {}
local i = 3
while i <= #ARGV do
  local worker, inbox, message, group = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local jobs = tonumber(ARGV[i + 4])
  local fences, claimed = {}, false
  for first = i + 5, i + 3 + 2 * jobs, 2 do
    local fence, was_queued = claim(ARGV[first], ARGV[first + 1], worker, group)
    fences[#fences + 1] = fence
    claimed = claimed or was_queued
  end
  if claimed then
    -- once: a claim that is sent again finds none of its jobs queued
    if message ~= '' then redis.call('LPUSH', inbox, message) end
    redis.call('HSET', 'fb:groups', group, worker)
    -- one that has left meanwhile is found missing, and its jobs come back at once
    redis.call('SADD', 'fb:workers', worker)
  end
  groups[#groups + 1] = fences
  i = i + 5 + 2 * jobs
end
return groups
