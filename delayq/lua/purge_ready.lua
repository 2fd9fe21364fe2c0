-- Deletes messages from the stream that its group has not read; never a pending one. Keys that are parked for one go on.
--
-- KEYS[1] stream   STREAM ready and pending messages
-- KEYS[2] recent   ZSET   ids published lately
-- KEYS[3] schedule ZSET   scheduled messages by due ms
-- KEYS[4] bodies   HASH   their fields
-- KEYS[5] bell     STREAM rung at a new earliest due time
-- KEYS[6] parked   HASH   keys that wait, to the id of what they wait for
-- KEYS[7] waiting  ZSET   their messages, in order
-- ARGV[1] now   integer ms, or '' for the server's time
-- ARGV[2] group string
-- ARGV[3] stop  string  stream id of the last that may be deleted
-- ARGV[4] limit integer messages at most
-- Returns messages deleted
-- Cost: O(limit log n)

local stream, recent, schedule, bodies, bell = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local parked, waiting = KEYS[6], KEYS[7]
local parking = {parked = parked, waiting = waiting, schedule = schedule, bodies = bodies, bell = bell}
local refusal = wrong_type(stream, 'stream', recent, 'zset', schedule, 'zset', bodies, 'hash', bell, 'stream',
  parked, 'hash', waiting, 'zset')
if refusal then return refusal end

if redis.call('EXISTS', stream) == 0 then return 0 end
local now, last = now_ms(ARGV[1]), last_delivered(stream, ARGV[2])
local unread = redis.call('XRANGE', stream, last and '(' .. last or '-', ARGV[3], 'COUNT', tonumber(ARGV[4]))
for _, entry in ipairs(unread) do
  redis.call('ZREM', recent, 'i:' .. (field(entry[2], 'id') or entry[1]))
  unpark(parking, field(entry[2], 'key'), place_of(entry[1], entry[2]), now)
  redis.call('XDEL', stream, entry[1])
end
return #unread
