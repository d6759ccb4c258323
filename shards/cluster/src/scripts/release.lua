-- Leaves a session without an owner. Its state stays.
-- KEYS: session. ARGV: epoch, owner, time to live (ms).
if not is_ours(KEYS[1], 64) then
  return {'senseless'}
end
local there = redis.call('HMGET', KEYS[1], 'epoch', 'owner')
local epoch = whole(there[1] or '0')
if not epoch then
  return {'senseless'}
end
if epoch ~= tonumber(ARGV[1]) or there[2] ~= ARGV[2] then
  return {'lost', plain(epoch), there[2] or ''}
end
redis.call('HSET', KEYS[1], 'owner', '')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'done'}
