-- A delivery that was given up is tried anew; its job's record comes back where it has expired.
-- ARGV: now, letter, job, number, lane, record, result ttl
-- Returns 1; 0 where there is no such letter any more.
local now, letter, id, number, lane, record, ttl_s = unpack(ARGV, 1, 7)
local key = job_key(id)
local fields = redis.call('HGETALL', 'fb:letter:' .. letter)
if #fields == 0 then return 0 end
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 2) ~= 'l:' and fields[i] ~= 'left' then
    redis.call('HSETNX', key, fields[i], fields[i + 1])
  end
end
redis.call('PERSIST', key)
redis.call('HSETNX', key, 'ttl', ttl_s)
redis.call('HINCRBY', key, 'left', 1)
redis.call('HSET', key, 'd:' .. number, record)
redis.call('ZADD', 'fb:due:' .. lane, now, id .. ' ' .. number)
set_due(lane)
drop_letter(letter)
return 1
