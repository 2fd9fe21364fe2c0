-- Deletes messages from the stream that its group has not read; never a pending one. Keys that are parked for one go on.
--
-- KEYS[1] stream  STREAM ready and pending messages
-- KEYS[2] recent  ZSET   ids published lately
-- KEYS[3] parked  HASH   keys that wait, to the id of what they wait for
-- KEYS[4] waiting ZSET   their messages, in order
-- ARGV[1] group string
-- ARGV[2] stop  string  stream id of the last that may be deleted
-- ARGV[3] limit integer messages at most
-- Returns messages deleted
-- Cost: O(limit log n)

local stream, recent, parked, waiting = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local refusal = wrong_type(stream, 'stream', recent, 'zset', parked, 'hash', waiting, 'zset')
if refusal then return refusal end

if redis.call('EXISTS', stream) == 0 then return 0 end
local last = last_delivered(stream, ARGV[1])
local unread = redis.call('XRANGE', stream, last and '(' .. last or '-', ARGV[2], 'COUNT', tonumber(ARGV[3]))
for _, entry in ipairs(unread) do
  redis.call('ZREM', recent, 'i:' .. (field(entry[2], 'id') or entry[1]))
  unpark(parked, waiting, field(entry[2], 'key'), place_of(entry[1], entry[2]))
  redis.call('XDEL', stream, entry[1])
end
return #unread
