-- Settle one job that nobody computes: cancelled by its caller, or expired by the scheduler.
-- ARGV: result ttl, id, status, outcome, counter ('' for none), 1 when only a queued job may be
-- Returns the status it has now, or false when there is no such job; a settled job stays as it is.
local ttl_s, id, status, outcome, counter, queued_only = unpack(ARGV, 1, 6)
local was = redis.call('HGET', job_key(id), 'status')
if was == 'queued' or (was == 'running' and queued_only == '0') then
  settle(id, status, outcome, ttl_s)
  send_mail()
  if counter ~= '' then redis.call('HINCRBY', 'fb:counters', counter, 1) end
  return 'now ' .. status
end
return was
