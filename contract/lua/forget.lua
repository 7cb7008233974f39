-- Drop the records of retired versions that no job needs. Returns their names.
local records = redis.call('HKEYS', 'fb:retired')
local forgotten = {}
for _, ref in ipairs(records) do
  if tonumber(redis.call('HGET', 'fb:inflight', ref) or '0') <= 0 then
    redis.call('HDEL', 'fb:retired', ref)
    redis.call('HDEL', 'fb:inflight', ref)
    forgotten[#forgotten + 1] = ref
  end
end
return forgotten
