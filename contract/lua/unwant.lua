-- Take a wish back, unless a newer one has replaced it. ARGV: <name>@<n>, number. Returns 0 or 1.
local wish = redis.call('HGET', 'fb:wanted', ARGV[1])
if wish and string.match(wish, '^(%d+) ') == ARGV[2] then
  return redis.call('HDEL', 'fb:wanted', ARGV[1])
end
return 0
