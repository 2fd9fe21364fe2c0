-- Puts a pending message of a parked key back on the schedule, uncounted: it was not handled. There it is held until it
-- is among the first of those that wait. Unless it is the first itself: then it may pass. And unless it looks for what it
-- waits for: then it comes back at once, behind all that is in the stream now.
--
-- KEYS[1] lease    HASH   the consumer's lease
-- KEYS[2] stream   STREAM ready and pending messages
-- KEYS[3] schedule ZSET   scheduled messages by due ms
-- KEYS[4] bodies   HASH   their fields
-- KEYS[5] arrival  STRING last arrival number
-- KEYS[6] bell     STREAM rung at a new earliest due time
-- KEYS[7] parked   HASH   keys that wait, to the id of what they wait for
-- KEYS[8] waiting  ZSET   their messages, in order
-- ARGV[1] epoch      string  of the holder
-- ARGV[2] group      string
-- ARGV[3] now        integer ms, or '' for the server's time
-- ARGV[4] entry      string  stream id
-- ARGV[5] key        string  that waits
-- ARGV[6] lost       integer 1 to wait for no message that is not scheduled: it was looked for in the stream
-- ARGV[7] looks   integer 1 to look for it in the stream, if it is not scheduled
-- Returns 1 if it was put there; 0 if so, but what it waits for is not scheduled; 2 if it is gone, as after a first
-- try; 3 if it may pass; -1 if the key waits no more
-- Cost: O(log n), and 256 lost messages forgotten, for which 32 come back

local lease, stream, schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local bell, parked, waiting = KEYS[6], KEYS[7], KEYS[8]
local parking = {parked = parked, waiting = waiting, schedule = schedule, bodies = bodies, bell = bell}
local group, entry, key, lost, looks = ARGV[2], ARGV[4], ARGV[5], ARGV[6] == '1', ARGV[7] == '1'
local refusal = wrong_type(stream, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string', bell, 'stream',
  parked, 'hash', waiting, 'zset') or fence(lease, ARGV[1])
if refusal then return refusal end

local fields = pending_fields(stream, group, entry)
if not fields then return 2 end
local blocker, first_waiting = blocker_of(parked, waiting, key)
if not blocker then return -1 end
local others = groups_of(stream, group)
local id, _, packed, place = as_scheduled(bodies, entry, fields, '', true, group, others)
local row = wait_in_place(waiting, key, place, id)
local waits_until
for _ = 1, lost and 256 or 1 do
  blocker, first_waiting = blocker_of(parked, waiting, key)
  if first_waiting == row then return 3 end
  local number = string.sub(redis.call('HGET', bodies, blocker) or '', 1, 12)
  waits_until = redis.call('ZSCORE', schedule, number .. blocker)
  if waits_until or not lost then break end
  redis.call('ZREM', waiting, first_waiting)
end
local now = now_ms(ARGV[3])
if lost then let_go(parking, key, now) end
local first, back_at_once = earliest_due(schedule), looks and not waits_until
local due = back_at_once and int(now) or held_until(math.max(now, tonumber(waits_until or 0)), waiting)
schedule_messages(schedule, bodies, arrival, {id, due, packed})
acknowledge_one(stream, group, entry, fields, others)
if back_at_once and (not first or now < first) then ring(bell) end
return waits_until and 1 or 0
