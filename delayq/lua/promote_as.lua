-- Moves messages to the stream with the fields given, each if it is still scheduled as it was seen; without fields, to
-- the dead stream.
--
-- KEYS[1] stream   STREAM ready messages
-- KEYS[2] schedule ZSET   scheduled messages by due ms
-- KEYS[3] bodies   HASH   their fields
-- KEYS[4] arrival  STRING last arrival number
-- KEYS[5] dead     STREAM for what is no message
-- ARGV[1…] per message: member, score as seen, count of fields, name, value …
-- Returns per message: 1 if it was moved, 0 if it was not there as seen
-- Cost: O(log n) a message

local stream, schedule, bodies, arrival, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local refusal = wrong_type(stream, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string', dead, 'stream')
if refusal then return refusal end

redis.call('PERSIST', schedule) -- the harmless first write: goes on at maxmemory
local reply, members, ids, at = {}, {}, {}, 1
while ARGV[at] do
  local member, seen, fields = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local moved = 0
  if redis.call('ZSCORE', schedule, member) == seen then
    local id = string.sub(member, 13)
    if fields > 0 then
      redis.call('XADD', stream, '*', 'id', id, 'due', int(seen), unpack(ARGV, at + 3, at + 2 + fields))
    else
      bury_scheduled(dead, id, seen, redis.call('HGET', bodies, id))
    end
    members[#members + 1] = member
    ids[#ids + 1] = id
    moved = 1
  end
  reply[#reply + 1] = moved
  at = at + 3 + fields
end
unschedule(schedule, bodies, arrival, members, ids)
return reply
