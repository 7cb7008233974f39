-- Keep a new trigger; for one of a stream its consumer group, in the same move.
-- ARGV: name, definition, most triggers, cron's place, stream ('' for none), group, first id
-- Returns 'ok'; '!exists', '!full', '!type' where the key of the stream holds something else.
local name, record, most, at, stream, group, first = unpack(ARGV)
local known = redis.call('HGET', 'fb:triggers', name)
if known then
  -- this very definition, sent again after a broken connection
  return string.sub(known, 1, 16) == string.sub(record, 1, 16) and 'ok' or '!exists'
end
if redis.call('HLEN', 'fb:triggers') >= tonumber(most) then return '!full' end
if stream ~= '' then
  local made = redis.pcall('XGROUP', 'CREATE', stream, group, first, 'MKSTREAM')
  if made.err then
    if string.find(made.err, 'WRONGTYPE', 1, true) then return '!type' end
    if not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  end
end
redis.call('DEL', 'fb:trigger:' .. name, 'fb:trigger:' .. name .. ':files')
if at ~= '' then redis.call('HSET', 'fb:trigger:' .. name, 'at_s', at) end
redis.call('HSET', 'fb:triggers', name, record)
redis.call('INCR', 'fb:triggers:version')
return 'ok'
