-- Moves a pending message to the dead stream, with its fields, of which a bounded number is kept, and why it is there.
-- Repeated, it changes nothing.
--
-- KEYS[1] lease    HASH   the consumer's lease
-- KEYS[2] stream   STREAM ready and pending messages
-- KEYS[3] dead     STREAM dead letters
-- KEYS[4] schedule ZSET   scheduled messages by due ms
-- KEYS[5] bodies   HASH   their fields
-- KEYS[6] bell     STREAM rung at a new earliest due time
-- KEYS[7] parked   HASH   keys that wait, to the id of what they wait for
-- KEYS[8] waiting  ZSET   their messages, in order
-- ARGV[1] epoch      string  of the holder
-- ARGV[2] group      string
-- ARGV[3] now        integer ms, or '' for the server's time
-- ARGV[4] entry      string  stream id
-- ARGV[5] deliveries integer up to now
-- ARGV[6] reason     string  a few words
-- ARGV[7] error      string  the last error, bounded by the caller
-- Returns 1, or 0 if the message is gone
-- Cost: O(log n)

local lease, stream, dead, schedule, bodies = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local bell, parked, waiting = KEYS[6], KEYS[7], KEYS[8]
local parking = {parked = parked, waiting = waiting, schedule = schedule, bodies = bodies, bell = bell}
local refusal = wrong_type(stream, 'stream', dead, 'stream', schedule, 'zset', bodies, 'hash', bell, 'stream',
  parked, 'hash', waiting, 'zset') or fence(lease, ARGV[1])
if refusal then return refusal end
return bury(stream, ARGV[2], dead, parking, now_ms(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7])
