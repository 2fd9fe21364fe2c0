-- Acknowledges messages: they leave Redis. Repeated, it changes nothing.
--
-- KEYS[1] lease  HASH   the consumer's lease
-- KEYS[2] stream STREAM ready and pending messages
-- ARGV[1] epoch string of the holder
-- ARGV[2] group string
-- ARGV[3…] stream ids, 1000 at most
-- Returns messages that were pending
-- Cost: O(1) a message

local lease, stream = KEYS[1], KEYS[2]
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end
return acknowledge(stream, ARGV[2], {unpack(ARGV, 3)})
