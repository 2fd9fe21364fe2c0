-- Asks the holder of a lease to pass on: it finishes what is in hand, gives the lease back, and lets others go first.
--
-- KEYS[1] lease   HASH   the lease of the lane
-- KEYS[2] vacancy STREAM rung so that the holder looks at once
-- ARGV[1] now integer ms, or '' for the server's time
-- Returns holder, epoch that were asked; '', 0 if nobody holds it
-- Cost: O(1)

local lease, vacancy = KEYS[1], KEYS[2]
local refusal = wrong_type(lease, 'hash', vacancy, 'stream')
if refusal then return refusal end
local holder, epoch = unpack(redis.call('HMGET', lease, 'holder', 'epoch'))
if not holder then return {'', '0'} end
redis.call('HSET', lease, 'handover', int(now_ms(ARGV[1])))
ring(vacancy)
return {holder, epoch or '0'}
