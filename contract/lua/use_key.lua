-- Remember when an API key was used; a revoked one leaves nothing behind.
-- ARGV: id, Unix seconds
if redis.call('HEXISTS', 'fb:keys', ARGV[1]) == 1 then
  redis.call('HSET', 'fb:keys:used', ARGV[1], ARGV[2])
end
