-- Stores a decision of the session's owner and publishes it, in one step.
-- KEYS: session; channels are arguments, or a migrating slot would refuse every commit with TRYAGAIN.
-- ARGV: epoch, version, owner, time to live (ms), publish command, head, tail, n, n channels, then fields and values, the
-- first of them `record`. Each channel receives head .. record .. tail.
local number, n = tonumber(ARGV[1]), tonumber(ARGV[8])
if not is_ours(KEYS[1], 64) then
  return {'senseless'}
end
local there = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'owner')
local epoch, version = whole(there[1] or '0'), whole(there[2] or '0')
if not epoch or not version then
  return {'senseless'}
end
if epoch > number or (epoch == number and there[3] ~= ARGV[3]) then
  return {'lost', plain(epoch), there[3] or ''}
end
if epoch == number and version > tonumber(ARGV[2]) then
  -- A later commit is stored. This one was given up, sent again, and carried out late.
  return {'done'}
end
-- The first write needs memory: if Redis is full it fails here, before anything has changed.
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'version', ARGV[2], 'owner', ARGV[3], unpack(ARGV, 9 + n))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return publish(ARGV[5], 9, 8 + n, ARGV[6] .. ARGV[10 + n] .. ARGV[7], {'done'})
