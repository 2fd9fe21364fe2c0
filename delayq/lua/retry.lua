-- Puts a pending message back on the schedule, under the same id, its deliveries kept. Repeated, it changes nothing.
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
-- ARGV[5] delay      integer ms
-- ARGV[6] deliveries integer up to now, or '' not to count this one
-- ARGV[7] park       integer 1 if the other messages of its key are to wait for it
-- Returns due ms, or 0 if the message is gone
-- Cost: O(log n)

local lease, stream, schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local bell, parked, waiting = KEYS[6], KEYS[7], KEYS[8]
local group, entry = ARGV[2], ARGV[4]
local refusal = wrong_type(stream, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string', bell, 'stream',
  parked, 'hash', waiting, 'zset') or fence(lease, ARGV[1])
if refusal then return refusal end

local fields = pending_fields(stream, group, entry)
if not fields then return 0 end
local park = ARGV[7] == '1'
local others = groups_of(stream, group)
local id, key, packed, place = as_scheduled(bodies, entry, fields, ARGV[6], park, group, others)
local due = now_ms(ARGV[3]) + tonumber(ARGV[5])
local first = earliest_due(schedule)
schedule_messages(schedule, bodies, arrival, {id, int(due), packed})
if key and park then
  wait_in_place(waiting, key, place, id)
  blocker_of(parked, waiting, key)
end
acknowledge_one(stream, group, entry, fields, others)
if not first or due < first then ring(bell) end
return int(due)
