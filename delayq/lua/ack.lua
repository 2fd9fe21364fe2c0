-- Acknowledges messages: they leave Redis. Repeated, it changes nothing.
--
-- KEYS[1] lease   HASH   the consumer's lease
-- KEYS[2] stream  STREAM ready and pending messages
-- KEYS[3] parked  HASH   keys that wait, to the id of what they wait for
-- KEYS[4] waiting ZSET   their messages, in order
-- ARGV[1] epoch string of the holder
-- ARGV[2] group string
-- ARGV[3] key   string of the first message, if it is parked; or ''
-- ARGV[4] id    string of the first message, if its key is parked; or ''
-- ARGV[5…] stream ids, 1000 at most
-- Returns messages that were pending
-- Cost: O(1) a message

local lease, stream, parked, waiting = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end
if ARGV[4] ~= '' then
  local found = ARGV[5] and redis.call('XRANGE', stream, ARGV[5], ARGV[5])[1]
  unpark(parked, waiting, ARGV[3], found and place_of(ARGV[5], found[2]))
end
return acknowledge(stream, ARGV[2], {unpack(ARGV, 5)})
