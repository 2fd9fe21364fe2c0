-- Accepts one message that is due now, where that is simple: nobody else knows of it, its caller is remembered, and
-- nothing is due before it. Most are like that, and this takes half the time of publish.lua, which is to be called
-- where this returns nothing; then this has changed nothing.
--
-- KEYS[1] stream   STREAM ready messages
-- KEYS[2] schedule ZSET   scheduled messages by due ms
-- KEYS[3] dedup    HASH   caller to number, ms and first id of its last call
-- ARGV[1] caller  string  who makes one call after the other
-- ARGV[2] number  integer of this call: made again, it has the same; the next one has a greater one
-- ARGV[3] window  integer ms, see `same_stretch`
-- ARGV[4] id      string
-- ARGV[5…] name, value …
-- Returns now
-- Cost: O(log n)

local stream, schedule, dedup = KEYS[1], KEYS[2], KEYS[3]
local caller, number, now = 'c:' .. ARGV[1], tonumber(ARGV[2]), now_ms('')

local last, at = last_call(dedup, caller)
if not last or last >= number or not same_stretch(at, now, ARGV[3]) then return end
local next_up = redis.pcall('ZRANGE', schedule, 0, 0, 'WITHSCORES')
if next_up.err or next_up[2] and tonumber(next_up[2]) <= now then return end
if redis.pcall('XADD', stream, '*', 'id', unpack(ARGV, 4)).err then return end
remember_call(dedup, caller, number, now, ARGV[4])
return now
