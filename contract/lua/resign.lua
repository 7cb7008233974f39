-- Give a role up. ARGV: role, token.
local key = 'fb:leader:' .. ARGV[1]
if redis.call('GET', key) == ARGV[2] then
  redis.call('DEL', key)
  signal('leader', ARGV[1])
end
