-- Settle jobs that nobody computes: cancelled by their caller, or expired by the scheduler.
-- ARGV: result ttl, status, outcome, counter ('' for none), 1 when only queued jobs may be, then ids
-- Returns per job the status it has now, after 'now ' where this has settled it, or false when there
-- is no such job; a settled job stays as it is.
local ttl_s, status, outcome, counter, queued_only = unpack(ARGV, 1, 5)
local replies = {}
for i = 6, #ARGV do
  local id = ARGV[i]
  local was = redis.call('HGET', job_key(id), 'status')
  if was == 'queued' or (was == 'running' and queued_only == '0') then
    local name = settle(id, status, outcome, ttl_s)
    if counter ~= '' then
      redis.call('HINCRBY', 'fb:counters', counter, 1)
      redis.call('HINCRBY', 'fb:stats:' .. name, counter, 1)
    end
    was = 'now ' .. status
  end
  replies[#replies + 1] = was
end
send_mail()
return replies
