-- Takes a message off the schedule, and forgets its id; who waited for it comes. Repeated, it changes nothing.
--
-- KEYS[1] schedule ZSET   scheduled messages by due ms
-- KEYS[2] bodies   HASH   their fields
-- KEYS[3] arrival  STRING last arrival number
-- KEYS[4] recent   ZSET   ids published lately
-- KEYS[5] bell     STREAM rung at a new earliest due time
-- KEYS[6] parked   HASH   keys that wait, to the id of what they wait for
-- KEYS[7] waiting  ZSET   their messages, in order
-- ARGV[1] now integer ms, or '' for the server's time
-- ARGV[2] id  string
-- Returns 1, or 0 if it is not scheduled
-- Cost: O(log n)

local schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3]
local recent, bell, parked, waiting = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local parking = {parked = parked, waiting = waiting, schedule = schedule, bodies = bodies, bell = bell}
local refusal = wrong_type(schedule, 'zset', bodies, 'hash', arrival, 'string', recent, 'zset', bell, 'stream',
  parked, 'hash', waiting, 'zset')
if refusal then return refusal end

local id = ARGV[2]
local packed = redis.call('HGET', bodies, id)
local member = packed and string.sub(packed, 1, 12) .. id
if not member or not redis.call('ZSCORE', schedule, member) then return 0 end
forget(recent, parking, id, packed, now_ms(ARGV[1]))
unschedule(schedule, bodies, arrival, {member}, {id})
return 1
