-- Gives a scheduled message another due time; its arrival number stays. What is due already and is to be due now
-- keeps its place. Repeated, with an absolute time, it changes nothing.
--
-- KEYS[1] schedule ZSET   scheduled messages by due ms
-- KEYS[2] bodies   HASH   their fields
-- KEYS[3] bell     STREAM rung at a new earliest due time
-- KEYS[4] recent   ZSET   ids published lately
-- ARGV[1] now    integer ms, or '' for the server's time
-- ARGV[2] id     string
-- ARGV[3] due    string  '+ms' from now, or absolute ms
-- ARGV[4] window integer ms after the due time in which the id is known
-- Returns 1, or 0 if it is not scheduled
-- Cost: O(log n)

local schedule, bodies, bell, recent = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, window = ARGV[2], tonumber(ARGV[4])
local refusal = wrong_type(schedule, 'zset', bodies, 'hash', bell, 'stream', recent, 'zset')
if refusal then return refusal end

local packed = redis.call('HGET', bodies, id)
local member = packed and string.sub(packed, 1, 12) .. id
local before = member and tonumber(redis.call('ZSCORE', schedule, member) or nil)
if not before then return 0 end

redis.call('PERSIST', schedule) -- the harmless first write: goes on at maxmemory
local now, first = now_ms(ARGV[1]), earliest_due(schedule)
local plus = string.match(ARGV[3], '^+(%d+)$')
local due = math.max(now, plus and now + tonumber(plus) or tonumber(ARGV[3]))
if due == now then due = math.min(due, before) end
redis.call('ZADD', schedule, int(due), member)
-- A publish made again shortly after it is promoted is still one message.
if due - now < window then
  redis.call('ZADD', recent, 'GT', int(due + window), 'i:' .. id)
  keep(recent, 2 * window)
end
if due < first then ring(bell) end
return 1
