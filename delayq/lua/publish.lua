-- Accepts messages: to the stream if due now, else to the schedule. An id or dedup id seen before is one message.
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
-- KEYS[7] recent   ZSET   ids and dedup ids published lately
-- KEYS[8] dedup    HASH   dedup id to due ms and id of its first message
-- ARGV[1] now     integer ms, or '' for the server's time
-- ARGV[2] promote integer messages to promote first; 0: none, and go past them; -1: none, and wait behind them
-- ARGV[3] window  integer ms in which a repeated id is known
-- ARGV[4] dedup_window integer ms in which a repeated dedup id is known
-- ARGV[5] backlog integer messages ready, pending and scheduled at most, 0 for no limit
-- ARGV[6] whole   integer 1: all of these messages or none; 0: as many as the backlog has room for
-- ARGV[7…] per message: id, dedup id or '', due ('+ms' from now, or absolute ms), count of fields, name, value …
-- Returns per message: id, due ms, and 0 accepted, 1 it was there already, 2 the backlog is full
-- Cost: O(log n) a message, and `promote` moves

local stream, schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dead, bell, recent, dedup = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local refusal = wrong_type(stream, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string',
  dead, 'stream', bell, 'stream', recent, 'zset', dedup, 'hash')
if refusal then return refusal end

local now, promote = now_ms(ARGV[1]), tonumber(ARGV[2])
local window, dedup_window = tonumber(ARGV[3]), tonumber(ARGV[4])
local backlog, whole = tonumber(ARGV[5]), ARGV[6] == '1'
if promote > 0 then promote_due(stream, schedule, bodies, arrival, dead, now, promote) end
local first = earliest_due(schedule)
local overtaking = promote ~= 0 and first and first <= now

-- Of a message that is there already: its id and due ms; else nothing.
local function known(id, dedup_id)
  if dedup_id ~= '' and tonumber(redis.call('ZSCORE', recent, 'd:' .. dedup_id) or 0) > now then
    local due, first_id = string.match(redis.call('HGET', dedup, dedup_id) or '', '^(%d+) (.*)$')
    if due then return first_id, due end
  end
  local packed = redis.call('HGET', bodies, id)
  if packed then return id, redis.call('ZSCORE', schedule, string.sub(packed, 1, 12) .. id) end
  local until_ms = redis.call('ZSCORE', recent, 'i:' .. id)
  if until_ms then return id, until_ms - window end
end

local function accept(id, dedup_id, due, from, to)
  if due - now < window then redis.call('ZADD', recent, int(due + window), 'i:' .. id) end
  if dedup_id ~= '' then
    redis.call('ZADD', recent, int(now + dedup_window), 'd:' .. dedup_id)
    redis.call('HSET', dedup, dedup_id, int(due) .. ' ' .. id)
  end
  if due > now or overtaking then
    local packed = {unpack(ARGV, from, to)}
    packed[#packed + 1] = 'published'
    packed[#packed + 1] = int(now)
    schedule_message(schedule, bodies, arrival, id, int(due), cjson.encode(packed))
  else
    redis.call('XADD', stream, '*', 'id', id, 'due', int(due), unpack(ARGV, from, to))
  end
end

-- Calls `act` for each message with its id, dedup id, delay, and where its fields stand.
local function each(act)
  local at = 7
  while ARGV[at] do
    local to = at + 3 + tonumber(ARGV[at + 3])
    act(ARGV[at], ARGV[at + 1], ARGV[at + 2], at + 4, to)
    at = to + 1
  end
end

local room = math.huge
if backlog > 0 then
  room = backlog - redis.call('XLEN', stream) - redis.call('ZCARD', schedule)
  if whole then
    local new = 0
    each(function(id, dedup_id) if not known(id, dedup_id) then new = new + 1 end end)
    if new > room then room = 0 end
  end
end

local reply, accepted = {}, 0
each(function(id, dedup_id, delay, from, to)
  local plus = string.match(delay, '^+(%d+)$')
  local due = math.max(now, plus and now + tonumber(plus) or tonumber(delay))
  local known_id, known_due = known(id, dedup_id)
  local status = known_id and 1 or accepted < room and 0 or 2
  if status == 0 then
    accept(id, dedup_id, due, from, to)
    accepted = accepted + 1
  end
  reply[#reply + 1] = known_id or id
  reply[#reply + 1] = int(tonumber(known_due or due))
  reply[#reply + 1] = status
end)

-- Forget what is older than the window: at most twice what came in, so that no call is long.
if accepted > 0 then
  local old = redis.call('ZRANGEBYSCORE', recent, '-inf', int(now), 'LIMIT', 0, 2 * accepted + 8)
  if #old > 0 then redis.call('ZREM', recent, unpack(old)) end
  for _, member in ipairs(old) do
    if string.sub(member, 1, 2) == 'd:' then redis.call('HDEL', dedup, string.sub(member, 3)) end
  end
  for _, key in ipairs({recent, dedup}) do redis.call('PEXPIRE', key, 2 * math.max(window, dedup_window)) end
end

local earliest = earliest_due(schedule)
if earliest and (not first or earliest < first) then ring(bell) end
return reply
