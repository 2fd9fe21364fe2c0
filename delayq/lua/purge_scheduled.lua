-- Deletes messages from the schedule, the next that are due first, as `cancel` does.
--
-- KEYS[1] schedule ZSET   scheduled messages by due ms
-- KEYS[2] bodies   HASH   their fields
-- KEYS[3] arrival  STRING last arrival number
-- KEYS[4] recent   ZSET   ids published lately
-- KEYS[5] parked   HASH   keys that wait, to the id of what they wait for
-- KEYS[6] waiting  ZSET   their messages, in order
-- ARGV[1] limit integer messages at most
-- Returns messages deleted
-- Cost: O(limit log n)

local schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3]
local recent, parked, waiting = KEYS[4], KEYS[5], KEYS[6]
local refusal = wrong_type(schedule, 'zset', bodies, 'hash', arrival, 'string', recent, 'zset', parked, 'hash',
  waiting, 'zset')
if refusal then return refusal end

local members, ids = redis.call('ZRANGE', schedule, 0, tonumber(ARGV[1]) - 1), {}
for i, member in ipairs(members) do
  ids[i] = string.sub(member, 13)
  forget(recent, parked, waiting, ids[i], redis.call('HGET', bodies, ids[i]))
end
unschedule(schedule, bodies, arrival, members, ids)
return #members
