-- Puts a pending message back on the schedule, behind the message that its key waits for and all that wait as well,
-- uncounted: it was not handled. Unless it may pass: it has waited, and nobody is waited for any more.
--
-- KEYS[1] lease    HASH   the consumer's lease
-- KEYS[2] stream   STREAM ready and pending messages
-- KEYS[3] schedule ZSET   scheduled messages by due ms
-- KEYS[4] bodies   HASH   their fields
-- KEYS[5] arrival  STRING last arrival number
-- KEYS[6] bell     STREAM rung at a new earliest due time
-- KEYS[7] parked   HASH   keys that wait, to what they wait for
-- ARGV[1] epoch      string  of the holder
-- ARGV[2] group      string
-- ARGV[3] now        integer ms, or '' for the server's time
-- ARGV[4] entry      string  stream id
-- ARGV[5] key        string  that waits
-- ARGV[6] lost       integer 1 to wait for no message that is not scheduled: it was looked for in the stream
-- Returns 1 if it was put there; 0 if so, but what it waits for is not scheduled; 2 if it is gone, as after a first
-- try; 3 if it may pass; -1 if the key waits no more
-- Cost: O(log n)

local lease, stream, schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local bell, parked = KEYS[6], KEYS[7]
local group, entry, key, lost = ARGV[2], ARGV[4], ARGV[5], ARGV[6] == '1'
local refusal = wrong_type(stream, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string', bell, 'stream',
  parked, 'hash') or fence(lease, ARGV[1])
if refusal then return refusal end

local last, until_ms, blocker = mark_of(parked, key)
if not last then return -1 end
local found = redis.call('XRANGE', stream, entry, entry)[1]
if not found then
  redis.call('XACK', stream, group, entry)
  return 2
end
local number = string.sub(redis.call('HGET', bodies, blocker) or '', 1, 12)
local waits_until = redis.call('ZSCORE', schedule, number .. blocker)
if lost and not waits_until then blocker = '' end
local id, _, packed, place = as_scheduled(bodies, entry, found[2], '', true)
if id == blocker or blocker == '' and not is_before(last, place) then
  mark(parked, key, last, until_ms, blocker)
  return 3
end
local now = now_ms(ARGV[3])
local due = math.max(now, tonumber(waits_until or 0), tonumber(until_ms))
if is_before(last, place) then last = place end
mark(parked, key, last, due, blocker)
local first = earliest_due(schedule)
schedule_messages(schedule, bodies, arrival, {id, int(due), packed})
redis.call('XACK', stream, group, entry)
redis.call('XDEL', stream, entry)
if not first or due < first then ring(bell) end
return (waits_until or blocker == '') and 1 or 0
