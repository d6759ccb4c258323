-- Removes what a node has of its own: a lease, or its entry in the table.
-- KEYS: lease or table. ARGV: incarnation, number (empty for a lease).
if ARGV[2] == '' then
  if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
  end
else
  local entry = redis.call('HGET', KEYS[1], ARGV[2])
  if entry and string.find(entry, '"incarnation":"' .. ARGV[1] .. '"', 1, true) then
    redis.call('HDEL', KEYS[1], ARGV[2])
  end
end
return {'done'}
