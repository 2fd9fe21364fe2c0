-- Moves a pending message to the dead stream, with its fields, of which a bounded number is kept, and why it is there.
-- Repeated, it changes nothing.
--
-- KEYS[1] lease   HASH   the consumer's lease
-- KEYS[2] stream  STREAM ready and pending messages
-- KEYS[3] dead    STREAM dead letters
-- KEYS[4] parked  HASH   keys that wait, to the id of what they wait for
-- KEYS[5] waiting ZSET   their messages, in order
-- ARGV[1] epoch      string  of the holder
-- ARGV[2] group      string
-- ARGV[3] entry      string  stream id
-- ARGV[4] deliveries integer up to now
-- ARGV[5] reason     string  a few words
-- ARGV[6] error      string  the last error, bounded by the caller
-- Returns 1, or 0 if the message is gone
-- Cost: O(1)

local lease, stream, dead, parked, waiting = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local refusal = wrong_type(stream, 'stream', dead, 'stream', parked, 'hash', waiting, 'zset') or fence(lease, ARGV[1])
if refusal then return refusal end
return bury(stream, ARGV[2], dead, parked, waiting, ARGV[3], ARGV[4], ARGV[5], ARGV[6])
