-- Remove dead letters: those of a list, or the oldest up to a moment.
-- ARGV: moment ('' for those of the list), how many at most, then ids
-- Returns how many there were.
local moment, most = ARGV[1], tonumber(ARGV[2])
local ids = {unpack(ARGV, 3)}
if moment ~= '' then
  ids = redis.call('ZRANGEBYSCORE', 'fb:dlq', '-inf', moment, 'LIMIT', 0, most)
end
local count = 0
for _, id in ipairs(ids) do count = count + drop_letter(id) end
return count
