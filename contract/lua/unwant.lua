-- Take a want back, unless a newer one has replaced it. ARGV: <name>@<n>, number. Returns 0 or 1.
local want = redis.call('HGET', 'fb:wanted', ARGV[1])
if want and string.match(want, '^(%d+) ') == ARGV[2] then
  return redis.call('HDEL', 'fb:wanted', ARGV[1])
end
return 0
