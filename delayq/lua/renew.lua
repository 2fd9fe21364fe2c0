-- Extends a lease. Never makes an expired one again.
--
-- KEYS[1] lease HASH the lease
-- ARGV[1] epoch      string  of the holder
-- ARGV[2] ttl        integer ms from now
-- ARGV[3] connection string  by which is known that the holder died; '0' for unknown
-- Returns 1, or refuses with LEASELOST
-- Cost: O(1)

local lease = KEYS[1]
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end
redis.call('PEXPIRE', lease, ARGV[2])
redis.call('HSET', lease, 'connection', ARGV[3])
return 1
