-- Takes a message off the schedule, and forgets its id; nobody waits for it any more. Repeated, it changes nothing.
--
-- KEYS[1] schedule ZSET   scheduled messages by due ms
-- KEYS[2] bodies   HASH   their fields
-- KEYS[3] arrival  STRING last arrival number
-- KEYS[4] recent   ZSET   ids published lately
-- KEYS[5] parked   HASH   keys that wait, to the id of what they wait for
-- KEYS[6] waiting  ZSET   their messages, in order
-- ARGV[1] id string
-- Returns 1, or 0 if it is not scheduled
-- Cost: O(log n)

local schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3]
local recent, parked, waiting = KEYS[4], KEYS[5], KEYS[6]
local refusal = wrong_type(schedule, 'zset', bodies, 'hash', arrival, 'string', recent, 'zset', parked, 'hash',
  waiting, 'zset')
if refusal then return refusal end

local packed = redis.call('HGET', bodies, ARGV[1])
local member = packed and string.sub(packed, 1, 12) .. ARGV[1]
if not member or not redis.call('ZSCORE', schedule, member) then return 0 end
forget(recent, parked, waiting, ARGV[1], packed)
unschedule(schedule, bodies, arrival, {member}, {ARGV[1]})
return 1
