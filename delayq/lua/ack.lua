-- Acknowledges messages: they leave Redis, and the next of a parked key come. Repeated, it changes nothing.
--
-- KEYS[1] lease    HASH   the consumer's lease
-- KEYS[2] stream   STREAM ready and pending messages
-- KEYS[3] schedule ZSET   scheduled messages by due ms
-- KEYS[4] bodies   HASH   their fields
-- KEYS[5] bell     STREAM rung at a new earliest due time
-- KEYS[6] parked   HASH   keys that wait, to the id of what they wait for
-- KEYS[7] waiting  ZSET   their messages, in order
-- ARGV[1] epoch string  of the holder
-- ARGV[2] group string
-- ARGV[3] now   integer ms, or '' for the server's time
-- ARGV[4] key   string  of the first message, if it is parked; or ''
-- ARGV[5] id    string  of the first message, if its key is parked; or ''
-- ARGV[6…] stream ids, 1000 at most
-- Returns messages that were pending
-- Cost: O(1) a message, O(log n) for a parked key

local lease, stream = KEYS[1], KEYS[2]
local parking = {parked = KEYS[6], waiting = KEYS[7], schedule = KEYS[3], bodies = KEYS[4], bell = KEYS[5]}
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end
if ARGV[5] ~= '' then
  local found = ARGV[6] and redis.call('XRANGE', stream, ARGV[6], ARGV[6])[1]
  unpark(parking, ARGV[4], found and place_of(ARGV[6], found[2]), now_ms(ARGV[3]))
end
return acknowledge(stream, ARGV[2], {unpack(ARGV, 6)})
