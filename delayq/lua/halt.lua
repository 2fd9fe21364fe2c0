-- Stops the lane at a pending message, until it is resumed. Repeated, it changes nothing; nor does it where the lane
-- stopped at another one: this one stays pending, to be delivered again when the lane goes on.
--
-- KEYS[1] lease  HASH the lease of the lane
-- KEYS[2] stream STREAM ready and pending messages
-- KEYS[3] halted HASH the entry that the lane stopped at, and why
-- ARGV[1] epoch  string  of the holder
-- ARGV[2] group  string
-- ARGV[3] now    integer ms, or '' for the server's time
-- ARGV[4] entry  string  stream id
-- ARGV[5] id     string  of the message
-- ARGV[6] reason string  a few words
-- ARGV[7] error  string  the last error, bounded by the caller
-- Returns 1, or 0 if the message is gone
-- Cost: O(1)

local lease, stream, halted = KEYS[1], KEYS[2], KEYS[3]
local group, entry = ARGV[2], ARGV[4]
local refusal = wrong_type(stream, 'stream', halted, 'hash') or fence(lease, ARGV[1])
if refusal then return refusal end
if not pending_fields(stream, group, entry) then return 0 end
local stopped_at = redis.call('HGET', halted, 'entry')
if stopped_at and stopped_at ~= entry then return 1 end
redis.call('HSET', halted, 'entry', entry, 'id', ARGV[5], 'reason', ARGV[6], 'error', ARGV[7],
  'halted_ms', int(now_ms(ARGV[3])))
return 1
