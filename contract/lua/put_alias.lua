-- Make or move an alias, or move it back. ARGV: function, alias, versions as `3:90,4:10` ('' moves
-- it back to what it pointed at before), aliases of a function at most, former targets kept
-- Returns the alias's new record; or why not, after '!': unknown_function (with the version that is
-- missing, 0 for all), unknown_alias, no_before, too_many.
local name, alias, versions, most, kept = unpack(ARGV)
local key, field = 'fb:function:' .. name, 'a:' .. alias
if not redis.call('HGET', key, 'latest') then return '!unknown_function 0' end
local parts = {}
for part in string.gmatch(redis.call('HGET', key, field) or '', '[^;]+') do
  parts[#parts + 1] = part
end
if versions == '' then
  if #parts == 0 then return '!unknown_alias' end
  if #parts == 1 then return '!no_before' end
  table.remove(parts, 1)
elseif parts[1] ~= versions then
  -- the same again changes nothing, nor does it forget what was before
  table.insert(parts, 1, versions)
end
for version in string.gmatch(parts[1], '(%d+):') do
  if redis.call('HEXISTS', key, 'v:' .. version) == 0 then
    return '!unknown_function ' .. version
  end
end
if redis.call('HEXISTS', key, field) == 0 then
  local count = 0
  for _, other in ipairs(redis.call('HKEYS', key)) do
    if string.sub(other, 1, 2) == 'a:' then count = count + 1 end
  end
  if count >= tonumber(most) then return '!too_many' end
end
while #parts > 1 + tonumber(kept) do table.remove(parts) end
local record = table.concat(parts, ';')
redis.call('HSET', key, field, record)
return record
