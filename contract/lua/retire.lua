-- Take versions of a function out of service; jobs accepted for them still find the records.
-- ARGV: name, version or 0 for all, whose aliases go too. Returns the versions retired; or the name
-- of an alias that points to the version, which then stays.
local name, only = ARGV[1], ARGV[2]
local key = 'fb:function:' .. name
local fields = redis.call('HGETALL', key)
local retired, latest = {}, 0
for i = 1, #fields, 2 do
  local alias = string.match(fields[i], '^a:(.+)$')
  if alias and only == '0' then
    redis.call('HDEL', key, fields[i])
  elseif alias and string.find(',' .. string.match(fields[i + 1], '^[^;]*'), ',' .. only .. ':', 1, true) then
    return alias
  end
end
for i = 1, #fields, 2 do
  local version = string.match(fields[i], '^v:(%d+)$')
  if version and (only == '0' or version == only) then
    redis.call('HSET', 'fb:retired', name .. '@' .. version, fields[i + 1])
    redis.call('HDEL', key, fields[i])
    redis.call('HDEL', 'fb:wanted', name .. '@' .. version)
    retired[#retired + 1] = tonumber(version)
  elseif version then
    latest = math.max(latest, tonumber(version))
  end
end
if latest > 0 then
  redis.call('HSET', key, 'latest', latest)
else
  redis.call('HDEL', key, 'latest')
  redis.call('SREM', 'fb:functions', name)
end
return retired
