-- Settle jobs of a group, each only under its current fence.
-- ARGV: result ttl, signal ('' while the group goes on), group,
--       number of counters, per counter: hash, field, amount,
--       then per job: id, fence, status, outcome, latency bucket, total in microseconds, rows,
--       1 when it is answered later than it was due
-- Returns per job 1 when this settled it, 0 when its fence is old or it was cancelled.
local ttl_s, ended, group, counters = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local at = 5
for _ = 1, counters do
  redis.call('HINCRBY', ARGV[at], ARGV[at + 1], ARGV[at + 2])
  at = at + 3
end
local replies, fenced = {}, 0
for i = at, #ARGV, 8 do
  local id, fence, status, outcome, bucket, total_us, rows, late = unpack(ARGV, i, i + 7)
  local job = redis.call('HMGET', job_key(id), 'status', 'fence', 'function')
  if job[1] == 'running' and job[2] == fence then
    settle(id, status, outcome, ttl_s)
    local stats = 'fb:stats:' .. job[3]
    redis.call('HINCRBY', stats, 'latency:' .. bucket, 1)
    redis.call('HINCRBY', stats, 'us:total', total_us)
    redis.call('HINCRBY', stats, 'rows', rows)
    if status == 'succeeded' then
      redis.call('HINCRBY', stats, 'us:answered', total_us)
      if late == '1' then redis.call('HINCRBY', stats, 'late', 1) end
    end
    if ended ~= '' then redis.call('HSET', job_key(id), 'ran', ended) end
    replies[#replies + 1] = 1
  elseif job[1] == status and job[2] == fence then
    -- this very settlement, sent again after a broken connection
    replies[#replies + 1] = 1
  else
    replies[#replies + 1] = 0
    if job[1] ~= 'cancelled' then fenced = fenced + 1 end
  end
end
if fenced > 0 then redis.call('HINCRBY', 'fb:counters', 'fenced', fenced) end
send_mail()
if ended ~= '' then
  redis.call('HDEL', 'fb:groups', group)
  signal('group', ended)
end
return replies
