-- Writes a node into the table and returns all of it.
-- KEYS: table. ARGV: number (0 for any), incarnation, entry (a JSON object), buckets, origin (empty if unknown), time
-- after which an entry is forgotten (ms), maximum bytes of an entry, whether no other number will do.
local incarnation, entry, keep = ARGV[2], ARGV[3], tonumber(ARGV[6])
if not is_ours(KEYS[1], 4096) then
  return {'senseless'}
end
local founded = redis.call('HMGET', KEYS[1], 'origin', 'buckets')
local origin = founded[1] or ARGV[5]
if founded[1] and founded[2] and founded[2] ~= ARGV[4] then
  return {'buckets', founded[2]}
end
if origin == '' then
  -- Nobody knows the founding: a node that does may still come. Numbers are given out after that.
  return {'unfounded'}
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- Entries by number: when written, incarnation. An entry that makes no sense, or is old, is free.
local all, used, free = redis.call('HGETALL', KEYS[1]), {}, {}
for place = 1, #all, 2 do
  local number = whole(all[place])
  if number and number >= 1 and number <= 2047 then
    local is_read, read = pcall(cjson.decode, #all[place + 1] <= tonumber(ARGV[7]) and all[place + 1] or '')
    local at = is_read and type(read) == 'table' and tonumber(read.at)
    if at and at > now - keep and at < now + keep and type(read.incarnation) == 'string' then
      used[number] = read.incarnation
    else
      free[#free + 1] = all[place]
    end
  end
end
local number = tonumber(ARGV[1])
if number < 1 or number > 2047 or (used[number] and used[number] ~= incarnation) then
  if ARGV[8] == '1' then
    return {'taken'}
  end
  number = 1
  while used[number] and used[number] ~= incarnation do
    number = number + 1
  end
  if number > 2047 then
    return {'full'}
  end
end
redis.call('HSET', KEYS[1], plain(number), '{"at":' .. plain(now) .. ',' .. string.sub(entry, 2), 'origin', origin,
  'buckets', ARGV[4])
for _, field in ipairs(free) do
  if field ~= plain(number) then
    redis.call('HDEL', KEYS[1], field)
  end
end
local out = {'in', plain(number), origin, plain(now)}
for place = 1, #all, 2 do
  if whole(all[place]) and #all[place + 1] <= tonumber(ARGV[7]) then
    out[#out + 1] = all[place]
    out[#out + 1] = all[place + 1]
  end
end
return out
