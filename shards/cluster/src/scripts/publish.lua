-- Publishes a message, unless the sender has slept since it wrote it: once its lease has ended, another node may own the
-- session, and nothing old may be said of it.
-- No keys. ARGV: end of the sender's lease by the clock of this server (Unix ms; 0 if unknown), publish command, message,
-- channels.
local last = tonumber(ARGV[1])
if last > 0 then
  local time = redis.call('TIME')
  if tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) >= last then
    return {'late'}
  end
end
return publish(ARGV[2], 4, #ARGV, ARGV[3], {'done'})
