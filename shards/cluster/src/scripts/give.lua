-- Gives a session to another node. Only its owner can, and only what Redis has of it.
-- KEYS: session.
-- ARGV: epoch, owner, new epoch, new owner, time to live (ms), publish command, message to the new owner, message to the
-- others, n, channel of the new owner, n channels of the others.
local n = tonumber(ARGV[9])
if not is_ours(KEYS[1], 64) then
  return {'senseless'}
end
local there = redis.call('HMGET', KEYS[1], 'epoch', 'owner')
local epoch = whole(there[1] or '0')
if not epoch then
  return {'senseless'}
end
if epoch > tonumber(ARGV[1]) or (epoch == tonumber(ARGV[1]) and there[2] ~= ARGV[2]) then
  return {'lost', plain(epoch), there[2] or ''}
end
if epoch < tonumber(ARGV[1]) then
  -- Redis has lost what this owner stored. It must commit again first.
  return {'behind', plain(epoch)}
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[3], 'version', '0', 'owner', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
local deaf = publish(ARGV[6], 10, 10, ARGV[7], {'done'})
-- A new owner that nobody hears takes the session by its lease later; the places of the others begin at 1.
for place = 11, 10 + n do
  if redis.call(ARGV[6], ARGV[place], ARGV[8]) == 0 then
    deaf[#deaf + 1] = place - 10
  end
end
return deaf
