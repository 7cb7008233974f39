-- Accept jobs, each or not at all: record, payload and pending entry in one move.
-- ARGV: limit of all, limit of a function, then per job
--       id, function, version, is_latest, spec, payload, waiter, milliseconds to its deadline
-- Returns per job the entry, or why it was refused, after '!', with the predicted wait in
-- milliseconds (0: not known) where that is for too many jobs.
local limit, function_limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local waiting = redis.call('XLEN', 'fb:pending')

-- With fewer jobs ahead, a prediction from a rate is worth nothing.
local SHORT = 4

-- Time until so many jobs have settled, at the rate measured while more waited.
local function wait_ms(jobs, name)
  local rate = tonumber(redis.call('HGET', 'fb:drain', name) or '0')
  return rate > 0 and math.ceil(1000 * jobs / rate) or 0
end

-- Why one more job of this function is refused, or nil.
local function refusal(name, version, left_ms)
  if waiting >= limit then return '!queue_full ' .. wait_ms(waiting, '') end
  local queued = tonumber(redis.call('HGET', 'fb:queued', name) or '0')
  -- no function may hold more of the queue than is left to the others
  if queued >= math.min(function_limit, limit - waiting) then
    return '!queue_full ' .. wait_ms(queued, name)
  end
  if queued < SHORT then return nil end
  local running_too = tonumber(redis.call('HGET', 'fb:inflight', name .. '@' .. version) or '0')
  local wait = wait_ms(math.max(queued, running_too), name)
  if wait > left_ms then return '!wait_too_long ' .. wait end
end

local replies = {}
for i = 3, #ARGV, 8 do
  local id, name, version, is_latest, spec, payload, waiter, left_ms = unpack(ARGV, i, i + 7)
  local key = job_key(id)
  local known = redis.call('HMGET', 'fb:function:' .. name, 'latest', 'v:' .. version)
  if redis.call('EXISTS', key) == 1 then
    -- this very submission, sent again after a broken connection
    replies[#replies + 1] = 'again'
  elseif not known[1] or not known[2] then
    replies[#replies + 1] = '!unknown_function'
  elseif is_latest == '1' and known[1] ~= version then
    replies[#replies + 1] = '!stale'
  else
    local why = refusal(name, version, tonumber(left_ms))
    if why then
      redis.call('HINCRBY', 'fb:counters', 'rejected:' .. string.match(why, '[a-z_]+'), 1)
      replies[#replies + 1] = why
    else
      redis.call('HSET', key, 'spec', spec, 'function', name, 'version', version, 'payload',
        payload, 'waiters', waiter, 'fence', 0, 'attempts', 0)
      replies[#replies + 1] = queue(key, id, name, spec)
      redis.call('HINCRBY', 'fb:inflight', name .. '@' .. version, 1)
      redis.call('HINCRBY', 'fb:counts', 'accepted', 1)
      waiting = waiting + 1
    end
  end
end
return replies
