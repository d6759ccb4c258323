-- Takes a session, unless a living node owns it.
-- KEYS: session, own lease, tags of the bucket, lease of the expected owner (if any).
-- ARGV: own number, own incarnation, expected owner (or empty), least k, time to live (ms), tag of the session, its id,
-- maximum bytes of record and branches, newest format that this node reads.
local number, incarnation, expected = ARGV[1], ARGV[2], ARGV[3]
local me = number .. '.' .. incarnation
if redis.call('GET', KEYS[2]) ~= incarnation then
  return {'lapsed'}
end
if not is_ours(KEYS[1], 64) or not is_ours(KEYS[3], 4000000) then
  return {'senseless'}
end
local there = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'format')
local epoch, owner, format = whole(there[1] or '0'), there[2] or '', whole(there[3] or '0')
local size = redis.call('HSTRLEN', KEYS[1], 'record') + redis.call('HSTRLEN', KEYS[1], 'branches')
if not string.find(owner, '^%d+%.%d+$') then
  -- Not written by a node: the record counts, the owner does not.
  owner = ''
end
if not epoch or not format or size > tonumber(ARGV[8]) then
  return {'senseless'}
end
if format > tonumber(ARGV[9]) then
  return {'newer', plain(format)}
end
local state = redis.call('HMGET', KEYS[1], 'record', 'branches')
if owner ~= '' and owner ~= me
    and (owner ~= expected or redis.call('GET', KEYS[4]) == string.match(expected, '%.(.+)$')) then
  return {'theirs', owner, plain(epoch), state[1], state[2]}
end
local k = math.max(math.floor(epoch / 2048), tonumber(ARGV[4])) + 1
if k >= 4398046511104 then
  return {'limit', plain(epoch)}
end
local taken = plain(k * 2048 + tonumber(number))
-- The first write needs memory: if Redis is full it fails here, before anything has changed.
redis.call('HSET', KEYS[1], 'epoch', taken, 'version', '0', 'owner', me)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('HSET', KEYS[3], ARGV[6], ARGV[7])
return {'mine', owner, taken, state[1], state[2]}
