-- Accept jobs, each or not at all: record, payload and pending entry in one move.
-- ARGV: limit of all, limit of a function, then per job
--       id, function, version, what was asked for (1: the latest, 0: this one, or an alias), spec,
--       payload, waiter, claim ('' without a key),
--       milliseconds to its deadline, origin ('' for none), and of
--       which of its ends somebody hears: s of success, f of any other
-- Returns per job the entry; or why it was refused, after '!', with the predicted wait in
-- milliseconds (0: not known) where that is for too many jobs; or, after '=', the job that its
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

-- Ended jobs of which somebody is to be told; they keep their payloads meanwhile.
local OUTBOX_LIMIT = 100000

-- With fewer jobs ahead, a prediction from a rate is worth nothing.
local SHORT = 4

-- Time until so many jobs have settled, at the rate measured while more waited.
local function wait_ms(jobs, name)
  local rate = tonumber(redis.call('HGET', 'fb:drain', name) or '0')
  return rate > 0 and math.ceil(1000 * jobs / rate) or 0
end

-- Why one more job of this function is refused, or nil.
local function refusal(name, version, left_ms, queued)
  if waiting >= limit then return '!queue_full ' .. wait_ms(waiting, '') end
  -- no function may hold more of the queue than is left to the others
  if queued >= math.min(function_limit, limit - waiting) then
    return '!queue_full ' .. wait_ms(queued, name)
  end
  if queued < SHORT then return nil end
  local running_too = tonumber(redis.call('HGET', 'fb:inflight', name .. '@' .. version) or '0')
  local wait = wait_ms(math.max(queued, running_too), name)
  if wait > left_ms then return '!wait_too_long ' .. wait end
end

-- Whether the version is not, or no longer, what was asked for; -> `known`: latest, version, alias.
local function is_stale(asked, version, known)
  if asked == '0' then return false end
  if asked == '1' then return known[1] ~= version end
  local now = ',' .. string.match(known[3] or '', '^[^;]*')
  return not string.find(now, ',' .. version .. ':', 1, true)
end

local replies = {}
for i = 3, #ARGV, 11 do
  local id, name, version, asked, spec, payload, waiter, claim, left_ms, origin, told =
    unpack(ARGV, i, i + 10)
  local key = job_key(id)
  local held = holder(claim)
  local known = redis.call('HMGET', 'fb:function:' .. name, 'latest', 'v:' .. version, 'a:' .. asked)
  if redis.call('EXISTS', key) == 1 then
    -- this very submission, sent again after a broken connection
    replies[#replies + 1] = 'again'
  elseif held then
    replies[#replies + 1] = held
  elseif known[1] and is_stale(asked, version, known) then
    replies[#replies + 1] = '!stale'
  elseif not known[1] or not known[2] then
    replies[#replies + 1] = '!unknown_function'
  elseif told ~= '' and redis.call('XLEN', 'fb:outbox') >= OUTBOX_LIMIT then
    -- nobody takes them out: whoever counts on being told should hear it now
    replies[#replies + 1] = '!queue_full 0'
  else
    local queued = tonumber(redis.call('HGET', 'fb:queued', name) or '0')
    local why = refusal(name, version, tonumber(left_ms), queued)
    if why then
      local counter = 'rejected:' .. string.match(why, '[a-z_]+')
      redis.call('HINCRBY', 'fb:counters', counter, 1)
      redis.call('HINCRBY', 'fb:stats:' .. name, counter, 1)
      replies[#replies + 1] = why
    else
      redis.call('HSET', key, 'spec', spec, 'function', name, 'version', version, 'payload',
        payload, 'waiters', waiter, 'fence', 0, 'attempts', 0, 'ahead', waiting .. ' ' .. queued)
      if origin ~= '' then redis.call('HSET', key, 'origin', origin, 'told', told) end
      replies[#replies + 1] = queue(key, id, name, spec)
      take(claim, key, id)
      redis.call('HINCRBY', 'fb:inflight', name .. '@' .. version, 1)
      redis.call('HINCRBY', 'fb:counts', 'accepted', 1)
      waiting = waiting + 1
    end
  end
end
return replies
