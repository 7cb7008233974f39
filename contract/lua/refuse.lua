-- Settle queued jobs that cannot be met: refused by the scheduler, each with an outcome of its own.
-- ARGV: result ttl, status, counter, then per job: id, outcome
-- Returns per job 1 where it was still queued, else 0: whoever claimed or cancelled it was quicker.
local ttl_s, status, counter = unpack(ARGV, 1, 3)
local replies, count = {}, 0
for i = 4, #ARGV, 2 do
  local id, outcome = ARGV[i], ARGV[i + 1]
  local is_queued = redis.call('HGET', job_key(id), 'status') == 'queued'
  if is_queued then
    redis.call('HINCRBY', 'fb:stats:' .. settle(id, status, outcome, ttl_s), counter, 1)
    count = count + 1
  end
  replies[#replies + 1] = is_queued and 1 or 0
end
if count > 0 then redis.call('HINCRBY', 'fb:counters', counter, count) end
send_mail()
return replies
