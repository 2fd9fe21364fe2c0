-- Gives a lease back, and deletes its holder from the group if nothing is pending under it.
--
-- KEYS[1] lease   HASH   the lease
-- KEYS[2] stream  STREAM ready and pending messages
-- KEYS[3] vacancy STREAM rung so that a standby looks at once
-- ARGV[1] epoch    string of the holder
-- ARGV[2] group    string
-- ARGV[3] consumer string the holder
-- Returns 1 if it was held, 0 if it was lost or given back before
-- Cost: O(1)

local lease, stream, vacancy = KEYS[1], KEYS[2], KEYS[3]
local group, consumer = ARGV[2], ARGV[3]
if redis.call('HGET', lease, 'epoch') ~= ARGV[1] then return 0 end
redis.call('DEL', lease)
local pending = redis.pcall('XPENDING', stream, group, '-', '+', 1, consumer)
if not pending.err and #pending == 0 then redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer) end
ring(vacancy)
return 1
