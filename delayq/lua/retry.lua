-- Puts a pending message back on the schedule, under the same id, its deliveries kept. Repeated, it changes nothing.
--
-- KEYS[1] lease    HASH   the consumer's lease
-- KEYS[2] stream   STREAM ready and pending messages
-- KEYS[3] schedule ZSET   scheduled messages by due ms
-- KEYS[4] bodies   HASH   their fields
-- KEYS[5] arrival  STRING last arrival number
-- KEYS[6] bell     STREAM rung at a new earliest due time
-- ARGV[1] epoch      string  of the holder
-- ARGV[2] group      string
-- ARGV[3] now        integer ms, or '' for the server's time
-- ARGV[4] entry      string  stream id
-- ARGV[5] delay      integer ms
-- ARGV[6] deliveries integer up to now
-- Returns due ms, or 0 if the message is gone
-- Cost: O(log n)

local lease, stream, schedule, bodies, arrival, bell = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local group, entry = ARGV[2], ARGV[4]
local refusal = wrong_type(stream, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string', bell, 'stream')
  or fence(lease, ARGV[1])
if refusal then return refusal end

local found = redis.call('XRANGE', stream, entry, entry)[1]
if not found then
  redis.call('XACK', stream, group, entry)
  return 0
end

local entry_ms = string.match(entry, '^%d+')
local id, due_before, published, packed = entry, entry_ms, nil, {}
for i = 1, #found[2], 2 do
  local name, value = found[2][i], found[2][i + 1]
  if name == 'id' then id = value
  elseif name == 'due' then due_before = value
  elseif name == 'published' then published = value
  elseif name ~= 'deliveries' then
    packed[#packed + 1] = name
    packed[#packed + 1] = value
  end
end
for _, value in ipairs({'published', published or due_before, 'deliveries', ARGV[6]}) do packed[#packed + 1] = value end
-- Two entries of one id can only come from foreign hands; neither may replace the other.
if redis.call('HEXISTS', bodies, id) == 1 then id = id .. '~' .. entry end

local due = now_ms(ARGV[3]) + tonumber(ARGV[5])
local first = earliest_due(schedule)
schedule_message(schedule, bodies, arrival, id, int(due), cjson.encode(packed))
redis.call('XACK', stream, group, entry)
redis.call('XDEL', stream, entry)
if not first or due < first then ring(bell) end
return int(due)
