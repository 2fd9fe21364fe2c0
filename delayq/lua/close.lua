-- Deletes the keys of a lane that its queue goes on without, if nothing is in it and nobody holds it. Its epoch stays.
--
-- KEYS[1] stream   STREAM ready and pending messages
-- KEYS[2] schedule ZSET   scheduled messages by due ms
-- KEYS[3] dead     STREAM dead letters
-- KEYS[4] lease    HASH   the lease of the lane
-- KEYS[5…] others  STRING and of other types: what else the lane has
-- Returns 1 if the lane is gone, 0 if it holds something, or is held
-- Cost: O(keys known to be published lately)

local stream, schedule, dead, lease = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local refusal = wrong_type(stream, 'stream', schedule, 'zset', dead, 'stream', lease, 'hash')
if refusal then return refusal end

local left = redis.call('XLEN', stream) + redis.call('ZCARD', schedule) + redis.call('XLEN', dead)
if left > 0 or redis.call('EXISTS', lease) == 1 then return 0 end
redis.call('DEL', stream, schedule, dead, unpack(KEYS, 5))
return 1
