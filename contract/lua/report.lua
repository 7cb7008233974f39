-- Write a worker's heartbeat.
-- ARGV: worker, report, time to live in milliseconds, 1 to wake the scheduler (joined, drains)
redis.call('SET', 'fb:worker:' .. ARGV[1], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', 'fb:workers', ARGV[1])
if ARGV[4] == '1' then signal('worker', ARGV[1]) end
