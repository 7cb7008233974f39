-- Drop the records of retired versions that no job needs. ARGV: seconds that the counters and the
-- log of a function without versions are kept. Returns the names of the versions.
local records = redis.call('HKEYS', 'fb:retired')
local forgotten = {}
for _, ref in ipairs(records) do
  if not redis.call('HGET', 'fb:inflight', ref) then
    redis.call('HDEL', 'fb:retired', ref)
    local name = string.match(ref, '^(.*)@%d+$')
    if not redis.call('HGET', 'fb:function:' .. name, 'latest') then
      redis.call('EXPIRE', 'fb:stats:' .. name, ARGV[1])
      redis.call('EXPIRE', 'fb:log:' .. name, ARGV[1])
    end
    forgotten[#forgotten + 1] = ref
  end
end
return forgotten
