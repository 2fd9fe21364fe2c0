-- Deletes messages from the schedule, the next that are due first, as `cancel` does.
--
-- KEYS[1] schedule ZSET   scheduled messages by due ms
-- KEYS[2] bodies   HASH   their fields
-- KEYS[3] arrival  STRING last arrival number
-- KEYS[4] recent   ZSET   ids published lately
-- KEYS[5] bell     STREAM rung at a new earliest due time
-- KEYS[6] parked   HASH   keys that wait, to the id of what they wait for
-- KEYS[7] waiting  ZSET   their messages, in order
-- ARGV[1] now   integer ms, or '' for the server's time
-- ARGV[2] limit integer messages at most; fewer if they are large
-- Returns messages deleted
-- Cost: O(limit log n)

local schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3]
local recent, bell, parked, waiting = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local parking = {parked = parked, waiting = waiting, schedule = schedule, bodies = bodies, bell = bell}
local refusal = wrong_type(schedule, 'zset', bodies, 'hash', arrival, 'string', recent, 'zset', bell, 'stream',
  parked, 'hash', waiting, 'zset')
if refusal then return refusal end

local now, keys_wait, bytes = now_ms(ARGV[1]), redis.call('EXISTS', waiting) == 1, 0
local members, ids = {}, {}
for i, member in ipairs(redis.call('ZRANGE', schedule, 0, tonumber(ARGV[2]) - 1)) do
  if bytes > ENOUGH_BYTES then break end
  members[i], ids[i] = member, string.sub(member, 13)
  local packed = keys_wait and redis.call('HGET', bodies, ids[i])
  forget(recent, parking, ids[i], packed, now)
  bytes = bytes + #(packed or '')
end
unschedule(schedule, bodies, arrival, members, ids)
return #members
