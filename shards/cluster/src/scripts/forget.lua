-- Deletes a session that its owner has no use for, unless another node has taken it since.
-- KEYS: session, tags of the bucket. ARGV: epoch, owner, tag of the session.
if not is_ours(KEYS[1], 64) or not is_ours(KEYS[2], 4000000) then
  return {'senseless'}
end
local there = redis.call('HMGET', KEYS[1], 'epoch', 'owner')
local epoch, owner = whole(there[1] or '0'), there[2] or ''
if not epoch then
  return {'senseless'}
end
if epoch > tonumber(ARGV[1]) or (owner ~= '' and owner ~= ARGV[2]) then
  return {'lost', plain(epoch), owner}
end
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[2], ARGV[3])
return {'done'}
