-- Move triggers on, each only while its definition is the one that the mover knows.
-- ARGV: number of counters, per counter: field, amount; then per trigger:
--       name, generation, fired, skipped, number of fields, per field: name, value ('' removes it),
--       number of files, per file: name, signature ('' removes it)
-- Returns per trigger 1, or 0 when its definition is gone.
local at = 2
for _ = 1, tonumber(ARGV[1]) do
  redis.call('HINCRBY', 'fb:counters', ARGV[at], ARGV[at + 1])
  at = at + 2
end

-- Pairs from here on: set, or removed where the value is empty. With a name they are a trigger's
-- progress, whose error says whether it fails.
local function write(key, is_known, name)
  local pairs_left = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, pairs_left do
    if is_known and name and ARGV[at] == 'error' then
      redis.call(ARGV[at + 1] ~= '' and 'SADD' or 'SREM', 'fb:triggers:failing', name)
    end
    if is_known and ARGV[at + 1] ~= '' then
      redis.call('HSET', key, ARGV[at], ARGV[at + 1])
    elseif is_known then
      redis.call('HDEL', key, ARGV[at])
    end
    at = at + 2
  end
end

local replies = {}
while at <= #ARGV do
  local name, generation, fired, skipped = unpack(ARGV, at, at + 3)
  at = at + 4
  local record, key = redis.call('HGET', 'fb:triggers', name), 'fb:trigger:' .. name
  local is_known = record and string.sub(record, 1, 16) == generation
  if is_known and fired ~= '0' then redis.call('HINCRBY', key, 'fired', fired) end
  if is_known and skipped ~= '0' then redis.call('HINCRBY', key, 'skipped', skipped) end
  write(key, is_known, name)
  write(key .. ':files', is_known)
  replies[#replies + 1] = is_known and 1 or 0
end
return replies
