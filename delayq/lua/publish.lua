-- Accepts messages: to the stream if due now, else to the schedule. An id seen before is one message.
--
-- Older due messages are promoted first, so that a publish due now does not overtake them; where more are due
-- than `promote`, the new one waits behind them in the schedule.
--
-- KEYS[1] stream   STREAM ready messages
-- KEYS[2] schedule ZSET   scheduled messages by due ms
-- KEYS[3] bodies   HASH   their fields
-- KEYS[4] arrival  STRING last arrival number
-- KEYS[5] dead     STREAM dead letters
-- KEYS[6] bell     STREAM rung at a new earliest due time
-- KEYS[7] recent   ZSET   ids published lately
-- ARGV[1] now     integer ms, or '' for the server's time
-- ARGV[2] promote integer messages to promote first, 0 for none
-- ARGV[3] window  integer ms in which a repeated id is known
-- ARGV[4…] per message: id, due ('+ms' from now, or absolute ms), count of fields, name, value …
-- Returns per message: due ms, 1 if it was there already or 0
-- Cost: O(log n) a message, and `promote` moves

local stream, schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dead, bell, recent = KEYS[5], KEYS[6], KEYS[7]
local refusal = wrong_type(stream, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string',
  dead, 'stream', bell, 'stream', recent, 'zset')
if refusal then return refusal end

local now, promote, window = now_ms(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if promote > 0 then promote_due(stream, schedule, bodies, arrival, dead, now, promote) end
local first = earliest_due(schedule)
local overtaking = promote > 0 and first and first <= now

local function due_of(id)
  local packed = redis.call('HGET', bodies, id)
  return packed and redis.call('ZSCORE', schedule, string.sub(packed, 1, 12) .. id)
    or redis.call('ZSCORE', recent, id)
end

local reply, at, accepted = {}, 4, 0
while ARGV[at] do
  local id, delay, fields = ARGV[at], string.match(ARGV[at + 1], '^+(%d+)$'), tonumber(ARGV[at + 2])
  local from, to = at + 3, at + 2 + fields
  local due = math.max(now, delay and now + tonumber(delay) or tonumber(ARGV[at + 1]))
  local known = due_of(id)
  if known then
    reply[#reply + 1] = int(tonumber(known))
    reply[#reply + 1] = 1
  else
    if due - now < window then redis.call('ZADD', recent, int(due), id) end
    if due > now or overtaking then
      local packed = {unpack(ARGV, from, to)}
      packed[#packed + 1] = 'published'
      packed[#packed + 1] = int(now)
      schedule_message(schedule, bodies, arrival, id, int(due), cjson.encode(packed))
    else
      redis.call('XADD', stream, '*', 'id', id, 'due', int(due), unpack(ARGV, from, to))
    end
    accepted = accepted + 1
    reply[#reply + 1] = int(due)
    reply[#reply + 1] = 0
  end
  at = to + 1
end

-- Forget what is older than the window: at most twice what came in, so that no call is long.
if accepted > 0 then
  local old = redis.call('ZCOUNT', recent, '-inf', int(now - window))
  if old > 0 then redis.call('ZREMRANGEBYRANK', recent, 0, math.min(old, 2 * accepted + 8) - 1) end
  redis.call('PEXPIRE', recent, 2 * window)
end

local earliest = earliest_due(schedule)
if earliest and (not first or earliest < first) then ring(bell) end
return reply
