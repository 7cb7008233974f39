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
  -- its progress goes with it
  if job[7] then redis.call('EXPIRE', 'fb:events:' .. id, ttl_s) end
  nudge(id, job[6])
  if string.find(job[5] or '', status == 'succeeded' and 's' or 'f', 1, true) then
    -- whoever tells of its end finds it here; until it has, the record stays with its payload
    redis.call('HDEL', key, 'entry', 'waiters', 'worker', 'group', 'followers')
    redis.call('XADD', 'fb:outbox', '*', 'j', id, 't', ttl_s)
  else
    redis.call('HDEL', key, 'payload', 'entry', 'waiters', 'worker', 'group', 'followers')
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

-- Deliveries wait in lanes; fb:due has the time of each lane's next one, fb:deliveries how many.
local function set_due(lane)
  local count = redis.call('ZCARD', 'fb:due:' .. lane)
  local change = count - tonumber(redis.call('HGET', 'fb:deliveries', lane) or 0)
  if change ~= 0 then
    redis.call('HINCRBY', 'fb:deliveries', '', change)
    if count > 0 then
      redis.call('HSET', 'fb:deliveries', lane, count)
    else
      redis.call('HDEL', 'fb:deliveries', lane)
    end
  end
  local first = redis.call('ZRANGE', 'fb:due:' .. lane, 0, 0, 'WITHSCORES')
  if first[1] then
    redis.call('ZADD', 'fb:due', first[2], lane)
  else
    redis.call('ZREM', 'fb:due', lane)
  end
end

-- Everybody has been told of a job: its record expires as those of others do.
local function end_telling(key)
  local ttl_s = redis.call('HGET', key, 'ttl')
  redis.call('HDEL', key, 'payload', 'ttl', 'left')
  redis.call('EXPIRE', key, ttl_s)
end

-- A dead letter goes.
local function drop_letter(id)
  local bytes = redis.call('HGET', 'fb:dlq:bytes', id)
  if bytes then
    redis.call('HINCRBY', 'fb:dlq:bytes', '', '-' .. bytes)
    redis.call('HDEL', 'fb:dlq:bytes', id)
  end
  redis.call('DEL', 'fb:letter:' .. id)
  return redis.call('ZREM', 'fb:dlq', id)
end

-- What a job's record holds becomes a dead letter; the oldest go where there are too many, or too
-- many bytes. One that is larger than that itself is kept without its payload.
local function bury(id, key, now, reason, number, max_letters, max_bytes)
  if redis.call('ZSCORE', 'fb:dlq', id) then return end
  local fields, bytes, kept = redis.call('HGETALL', key), 0, {}
  for i = 1, #fields, 2 do
    if fields[i] ~= 'payload' or #fields[i + 1] <= tonumber(max_bytes) then
      kept[#kept + 1] = fields[i]
      kept[#kept + 1] = fields[i + 1]
      bytes = bytes + #fields[i] + #fields[i + 1]
    end
  end
  local letter = 'fb:letter:' .. id
  for i = 1, #kept, 2 do redis.call('HSET', letter, kept[i], kept[i + 1]) end
  redis.call('HSET', letter, 'l:at', now, 'l:reason', reason, 'l:number', number)
  redis.call('HSET', 'fb:dlq:bytes', id, bytes)
  redis.call('HINCRBY', 'fb:dlq:bytes', '', bytes)
  redis.call('ZADD', 'fb:dlq', now, id)
  redis.call('HINCRBY', 'fb:counters', 'dead_letters', 1)
  while redis.call('ZCARD', 'fb:dlq') > tonumber(max_letters)
    or (tonumber(redis.call('HGET', 'fb:dlq:bytes', '')) > tonumber(max_bytes)
      and redis.call('ZCARD', 'fb:dlq') > 1) do
    drop_letter(redis.call('ZRANGE', 'fb:dlq', 0, 0)[1])
  end
end
