-- Put before every job script. A job is queued, running, or settled; these are the only moves.

local function job_key(id) return 'fb:job:' .. id end

-- A count that reaches 0 goes: functions come and go, and their names with them.
local function count_down(hash, field)
  if redis.call('HINCRBY', hash, field, -1) <= 0 then redis.call('HDEL', hash, field) end
end

-- A queued job leaves the pending stream.
local function unqueue(key, name)
  redis.call('XDEL', 'fb:pending', redis.call('HGET', key, 'entry'))
  count_down('fb:queued', name)
end

-- A new or a given-back job enters the pending stream.
local function queue(key, id, name, spec)
  local entry = redis.call('XADD', 'fb:pending', '*', 'j', id, 's', spec)
  redis.call('HSET', key, 'status', 'queued', 'entry', entry)
  redis.call('HINCRBY', 'fb:queued', name, 1)
  return entry
end

-- Outcomes by gateway that waits for them: id, length, outcome, one after another.
local mail = {}

-- Every script that settles ends with this: a gateway reads all its outcomes in one message.
local function send_mail()
  for gateway, pieces in pairs(mail) do
    redis.call('PUBLISH', 'fb:replies:' .. gateway, table.concat(pieces))
  end
end

-- Gateways whose clients follow a job look at it again.
local function nudge(id, followers)
  for gateway in string.gmatch(followers or '', '%S+') do
    redis.call('PUBLISH', 'fb:nudges:' .. gateway, id)
  end
end

-- A queued or running job gets its outcome; whoever waits for it will be told. Returns its function.
local function settle(id, status, outcome, ttl_s)
  local key = job_key(id)
  local job = redis.call('HMGET', key, 'status', 'function', 'version', 'waiters', 'told',
    'followers', 'progress')
  if job[1] == 'queued' then
    unqueue(key, job[2])
  else
    redis.call('ZREM', 'fb:leases', id)
  end
  redis.call('HSET', key, 'status', status, 'outcome', outcome)
  redis.call('HDEL', key, 'entry', 'waiters', 'worker', 'group', 'followers')
  -- its progress goes with it
  if job[7] then redis.call('EXPIRE', 'fb:events:' .. id, ttl_s) end
  nudge(id, job[6])
  if job[5] == '1' then
    -- whoever tells of its end finds it here; until it has, the record stays with its payload
    redis.call('XADD', 'fb:outbox', '*', 'j', id, 't', ttl_s)
  else
    redis.call('HDEL', key, 'payload')
    redis.call('EXPIRE', key, ttl_s)
  end
  -- an idempotency key goes with the job it stands for
  local idem = redis.call('HGET', key, 'idem')
  if idem then redis.call('EXPIRE', 'fb:idem:' .. idem, ttl_s) end
  count_down('fb:inflight', job[2] .. '@' .. job[3])
  redis.call('HINCRBY', 'fb:counts', status, 1)
  redis.call('HINCRBY', 'fb:stats:' .. job[2], 'jobs:' .. status, 1)
  for gateway in string.gmatch(job[4] or '', '%S+') do
    local pieces = mail[gateway] or {}
    mail[gateway] = pieces
    pieces[#pieces + 1] = id
    pieces[#pieces + 1] = struct.pack('>I4', #outcome)
    pieces[#pieces + 1] = outcome
  end
  return job[2]
end

local function signal(kind, data)
  redis.call('XADD', 'fb:signals', 'MAXLEN', '~', 4096, '*', 'k', kind, 'd', data)
end
