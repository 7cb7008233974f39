-- Accept jobs, each or not at all: record, payload and pending entry in one move.
-- ARGV: limit of all, limit of a function, then per job
--       id, function, version, is_latest, spec, payload, waiter
-- Returns per job the entry, or why it was refused, after '!'.
local limit, function_limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local waiting = redis.call('XLEN', 'fb:pending')
local replies = {}
for i = 3, #ARGV, 7 do
  local id, name, version, is_latest, spec, payload, waiter = unpack(ARGV, i, i + 6)
  local key = job_key(id)
  local known = redis.call('HMGET', 'fb:function:' .. name, 'latest', 'v:' .. version)
  if redis.call('EXISTS', key) == 1 then
    -- this very submission, sent again after a broken connection
    replies[#replies + 1] = 'again'
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
    redis.call('HINCRBY', 'fb:inflight', name .. '@' .. version, 1)
    redis.call('HINCRBY', 'fb:counts', 'accepted', 1)
    waiting = waiting + 1
  end
end
return replies
