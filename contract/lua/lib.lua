-- Put before every job script. A job is queued, running, or settled; these are the only moves.

local function job_key(id) return 'fb:job:' .. id end

-- A queued job leaves the pending stream.
local function unqueue(key, name)
  redis.call('XDEL', 'fb:pending', redis.call('HGET', key, 'entry'))
  redis.call('HINCRBY', 'fb:queued', name, -1)
end

-- A new or a given-back job enters the pending stream.
local function queue(key, id, name, spec)
  local entry = redis.call('XADD', 'fb:pending', '*', 'j', id, 's', spec)
  redis.call('HSET', key, 'status', 'queued', 'entry', entry)
  redis.call('HINCRBY', 'fb:queued', name, 1)
  return entry
end

-- A queued or running job gets its outcome; whoever waits for it is told.
local function settle(id, status, outcome, ttl_s)
  local key = job_key(id)
  local job = redis.call('HMGET', key, 'status', 'function', 'version', 'waiters')
  if job[1] == 'queued' then
    unqueue(key, job[2])
  else
    redis.call('ZREM', 'fb:leases', id)
  end
  redis.call('HSET', key, 'status', status, 'outcome', outcome)
  redis.call('HDEL', key, 'payload', 'entry', 'waiters', 'worker', 'group')
  redis.call('EXPIRE', key, ttl_s)
  redis.call('HINCRBY', 'fb:inflight', job[2] .. '@' .. job[3], -1)
  redis.call('HINCRBY', 'fb:counts', status, 1)
  redis.call('HINCRBY', 'fb:stats:' .. job[2], 'jobs:' .. status, 1)
  for gateway in string.gmatch(job[4] or '', '%S+') do
    redis.call('PUBLISH', 'fb:replies:' .. gateway, id .. outcome)
  end
end

local function signal(kind, data)
  redis.call('XADD', 'fb:signals', 'MAXLEN', '~', 4096, '*', 'k', kind, 'd', data)
end
