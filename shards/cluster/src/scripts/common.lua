-- The beginning of every script. Epochs and versions are whole numbers below 2^53, which Lua keeps exactly.
local function whole(text)
  local number = text and #text <= 16 and string.find(text, '^%d+$') and tonumber(text)
  return number and number < 9007199254740992 and number or nil
end
local function plain(number)
  return string.format('%.0f', number)
end
-- Whether a key is absent or a hash, with at most as many fields.
local function is_ours(key, most)
  local kind = redis.call('TYPE', key).ok
  return kind == 'none' or (kind == 'hash' and redis.call('HLEN', key) <= most)
end
-- Publishes to the channels ARGV[from] to ARGV[to], and appends the places of those that nobody listens to.
local function publish(command, from, to, message, deaf)
  for place = from, to do
    if redis.call(command, ARGV[place], message) == 0 then
      deaf[#deaf + 1] = place - from
    end
  end
  return deaf
end
