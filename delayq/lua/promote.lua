-- Moves what is due from the schedule to the stream, in order of (due, arrival).
--
-- KEYS[1] stream   STREAM ready messages
-- KEYS[2] schedule ZSET   scheduled messages by due ms
-- KEYS[3] bodies   HASH   their fields
-- KEYS[4] arrival  STRING last arrival number
-- KEYS[5] dead     STREAM for what is no message
-- ARGV[1] now   integer ms, or '' for the server's time
-- ARGV[2] limit integer messages to move at most
-- Returns messages moved, µs until the next is due (0: now; -1: the schedule is empty)
-- Cost: O(limit log n)

local stream, schedule, bodies, arrival, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local refusal = wrong_type(stream, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string', dead, 'stream')
if refusal then return refusal end

-- The harmless first write: what is accepted can be promoted at maxmemory too.
redis.call('PERSIST', schedule)
local now = now_ms(ARGV[1])
local moved = promote_due(stream, schedule, bodies, arrival, dead, now, tonumber(ARGV[2]))
return {moved, wait_us(earliest_due(schedule), now, ARGV[1])}
