-- Puts a pending message back on the schedule, behind the message that its key waits for, uncounted: it was not handled.
--
-- KEYS[1] lease    HASH   the consumer's lease
-- KEYS[2] stream   STREAM ready and pending messages
-- KEYS[3] schedule ZSET   scheduled messages by due ms
-- KEYS[4] bodies   HASH   their fields
-- KEYS[5] arrival  STRING last arrival number
-- KEYS[6] bell     STREAM rung at a new earliest due time
-- KEYS[7] parked   HASH   keys that wait, to the id of the message they wait for
-- ARGV[1] epoch      string  of the holder
-- ARGV[2] group      string
-- ARGV[3] now        integer ms, or '' for the server's time
-- ARGV[4] entry      string  stream id
-- ARGV[5] key        string  that waits
-- ARGV[6] blocker    string  id of the message that it waits for
-- Returns 1 if it was put behind the scheduled blocker; 0 if that is not scheduled, and this one is due at once; 2 if
-- it is gone, as after a first try; -1 if the key waits no more, and nothing changed
-- Cost: O(log n)

local lease, stream, schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local bell, parked = KEYS[6], KEYS[7]
local group, entry, key, blocker = ARGV[2], ARGV[4], ARGV[5], ARGV[6]
local refusal = wrong_type(stream, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string', bell, 'stream',
  parked, 'hash') or fence(lease, ARGV[1])
if refusal then return refusal end

if redis.call('HGET', parked, key) ~= blocker then return -1 end
local found = redis.call('XRANGE', stream, entry, entry)[1]
if not found then
  redis.call('XACK', stream, group, entry)
  return 2
end
local number = string.sub(redis.call('HGET', bodies, blocker) or '', 1, 12)
local waits_until = redis.call('ZSCORE', schedule, number .. blocker)
local id, _, packed = as_scheduled(bodies, entry, found[2], '')
local now = now_ms(ARGV[3])
local due = math.max(now, tonumber(waits_until or 0))
local first = earliest_due(schedule)
schedule_message(schedule, bodies, arrival, id, int(due), packed)
redis.call('XACK', stream, group, entry)
redis.call('XDEL', stream, entry)
if not first or due < first then ring(bell) end
return waits_until and 1 or 0
