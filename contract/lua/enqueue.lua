-- Accept jobs, each or not at all: record, payload and pending entry in one move.
-- ARGV: limit of all, limit of a function, then per job
--       id, function, version, is_latest, spec, payload, waiter, claim ('' without a key)
-- Returns per job the entry, or why it was refused, after '!', or after '=' the job that its
-- idempotency key stands for.

-- What an idempotency key stands for: nothing, another job of this request, or another request.
local function holder(claim)
  local held = claim ~= '' and redis.call('GET', 'fb:idem:' .. string.sub(claim, 1, 64))
  if not held then return nil end
  local is_same = string.sub(held, 25) == string.sub(claim, 65)
  return is_same and '=' .. string.sub(held, 1, 24) or '!key_reused'
end

-- The key stands for this job from now on, for as long as the job's record is kept.
local function take(claim, key, id)
  if claim == '' then return end
  local digest = string.sub(claim, 1, 64)
  redis.call('SET', 'fb:idem:' .. digest, id .. string.sub(claim, 65))
  redis.call('HSET', key, 'idem', digest)
end

local limit, function_limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local waiting = redis.call('XLEN', 'fb:pending')
local replies = {}
for i = 3, #ARGV, 8 do
  local id, name, version, is_latest, spec, payload, waiter, claim = unpack(ARGV, i, i + 7)
  local key = job_key(id)
  local held = holder(claim)
  local known = redis.call('HMGET', 'fb:function:' .. name, 'latest', 'v:' .. version)
  if redis.call('EXISTS', key) == 1 then
    -- this very submission, sent again after a broken connection
    replies[#replies + 1] = 'again'
  elseif held then
    replies[#replies + 1] = held
  elseif not known[1] or not known[2] then
    replies[#replies + 1] = '!unknown_function'
  elseif is_latest == '1' and known[1] ~= version then
    replies[#replies + 1] = '!stale'
  elseif waiting >= limit
      or tonumber(redis.call('HGET', 'fb:queued', name) or '0') >= function_limit then
    redis.call('HINCRBY', 'fb:counters', 'rejected:queue_full', 1)
    replies[#replies + 1] = '!queue_full'
  else
    redis.call('HSET', key, 'spec', spec, 'function', name, 'version', version, 'payload', payload,
      'waiters', waiter, 'fence', 0, 'attempts', 0)
    replies[#replies + 1] = queue(key, id, name, spec)
    take(claim, key, id)
    redis.call('HINCRBY', 'fb:inflight', name .. '@' .. version, 1)
    redis.call('HINCRBY', 'fb:counts', 'accepted', 1)
    waiting = waiting + 1
  end
end
return replies
