-- Accepts messages: to the stream if due now, else to the schedule. An id or dedup id seen before is one message, and
-- so is a message of a call that is made again.
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
-- KEYS[7] recent   ZSET   callers, and ids and dedup ids told, by the ms until which they are known
-- KEYS[8] dedup    HASH   caller to number, ms and first id of its last call; dedup id to due ms and id of its first message
-- ARGV[1] now     integer ms, or '' for the server's time
-- ARGV[2] caller  string  who makes one call after the other
-- ARGV[3] number  integer of this call: made again, it has the same; the next one has a greater one
-- ARGV[4] promote integer messages to promote first; 0: none, and go past them; -1: none, and wait behind them
-- ARGV[5] window  integer ms in which a call, and a repeated id, is known
-- ARGV[6] dedup_window integer ms in which a repeated dedup id is known
-- ARGV[7] backlog integer messages ready, pending and scheduled at most, 0 for no limit
-- ARGV[8] mode    integer 1: all of these messages or none; 0: as many as the backlog has room for; and 2 more: write
--         something whatever is there already, as the caller then asks who has what was written
-- ARGV[9…] per message: id; a head, of due ('+ms' from now, or absolute ms), a space, a count, a space, and what is
--          known of it elsewhere ('' nothing, 'i' its id, 'd…' a dedup id as well); then so many of: name, value …,
--          or with a count of 1 its body alone, or of 0 a JSON array of names and values, but for its ']'
-- Returns now, then per message that was not accepted as told: its place from 1, id, due ms, and 1 it was there
--         already, 2 the backlog is full; or nothing, and nothing was done, if the caller has made other calls since: it
--         comes so late that nobody hears, or there are two of it, as of a machine that was copied or set back
-- Cost: O(log n) a message, and `promote` moves

local stream, schedule, bodies, arrival = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dead, bell, recent, dedup = KEYS[5], KEYS[6], KEYS[7], KEYS[8]

-- The names and values of a message, which are `count` of ARGV.
local function values(count, from)
  if count == 1 then return 'body', ARGV[from] end
  return unpack(ARGV, from, from + count - 1)
end

local refusal = wrong_type(stream, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string', dead, 'stream',
  bell, 'stream', recent, 'zset', dedup, 'hash')
if refusal then return refusal end

local now, caller, number, promote = now_ms(ARGV[1]), 'c:' .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local window, dedup_window = tonumber(ARGV[5]), tonumber(ARGV[6])
local backlog, whole, confirm = tonumber(ARGV[7]), ARGV[8] % 2 == 1, tonumber(ARGV[8]) >= 2

-- What nobody but the caller knows was accepted by the call's first try, if there was one.
local last, called_at, last_id = last_call(dedup, caller)
local again = last == number and last_id == ARGV[9]
if last and last >= number and not again then return {} end
if again then now = called_at end

local first = earliest_due(schedule)
if promote > 0 and first and first <= now then
  promote_due(stream, schedule, bodies, arrival, dead, now, promote)
  first = earliest_due(schedule)
end
local overtaking = promote ~= 0 and first and first <= now
local tells_due = ARGV[1] ~= '' -- else it is the time in the entry's id

-- Of a message that is there already: its id and due ms; else nothing.
local function known(id, dedup_id)
  if dedup_id ~= '' and tonumber(redis.call('ZSCORE', recent, 'd:' .. dedup_id) or 0) > now then
    local due, first_id = string.match(redis.call('HGET', dedup, 'd:' .. dedup_id) or '', '^(%d+) (.*)$')
    if due then return first_id, due end
  end
  local packed = redis.call('HGET', bodies, id)
  if packed then return id, redis.call('ZSCORE', schedule, string.sub(packed, 1, 12) .. id) end
  local until_ms = redis.call('ZSCORE', recent, 'i:' .. id)
  if until_ms and tonumber(until_ms) > now then return id, until_ms - window end
end

local function remember(id, dedup_id, due)
  if due - now < window then redis.call('ZADD', recent, int(due + window), 'i:' .. id) end
  if dedup_id ~= '' then
    redis.call('ZADD', recent, int(now + dedup_window), 'd:' .. dedup_id)
    redis.call('HSET', dedup, 'd:' .. dedup_id, int(due) .. ' ' .. id)
  end
end

local published, stamped = int(now), nil
local waiting, parts = {}, 0 -- id, due, packed of messages to be scheduled together

local function wait(id, due, packed)
  waiting[parts + 1], waiting[parts + 2], waiting[parts + 3] = id, due, packed
  parts = parts + 3
end

-- See `unpacked`.
local function packed(count, from)
  if count == 1 then return stamped .. ARGV[from] end
  local fields = count == 0 and ARGV[from] or string.sub(cjson.encode({values(count, from)}), 1, -2)
  return fields .. ',"published","' .. published .. '"]'
end

local function accept(id, told, from)
  local due, count = told.due, told.count
  if told.waits then
    wait(id, due, packed(count, from))
  elseif count == 0 then
    redis.call('XADD', stream, '*', 'id', id, 'due', int(due), unpack(cjson.decode(ARGV[from] .. ']')))
  elseif tells_due then
    redis.call('XADD', stream, '*', 'id', id, 'due', int(due), values(count, from))
  else
    redis.call('XADD', stream, '*', 'id', id, values(count, from))
  end
end

local heads = {} -- most messages of a call have the same

local function read(head)
  local due, count, mark = string.match(head, '^(%S+) (%d+) (.*)$')
  if string.byte(due) == 43 then due = now + tonumber(string.sub(due, 2)) end
  local told = {due = math.max(now, tonumber(due)), count = tonumber(count), dedup_id = string.sub(mark, 2)}
  told.elsewhere, told.length = mark ~= '', math.max(1, told.count)
  told.waits = told.due > now or overtaking
  if told.waits then stamped = stamped or stamp(now) end
  told.plain = count == '1' and not told.elsewhere and (told.waits or not tells_due) and not again and backlog == 0
  heads[head] = told
  return told
end

-- Calls `act` for each message with its place, id, what its head told, and where its values stand; and for one that
-- is a body alone, and nothing but new, `act_plainly` with its id, its body and what its head told: that is faster.
local function each(act, act_plainly)
  local at, place = 9, 1
  while ARGV[at] do
    local told = heads[ARGV[at + 1]] or read(ARGV[at + 1])
    if told.plain then act_plainly(ARGV[at], ARGV[at + 2], told) else act(place, ARGV[at], told, at + 2) end
    at, place = at + 2 + told.length, place + 1
  end
end

-- A due time that another program gave may be infinite.
local function within_reason(ms)
  return math.max(0, math.min(tonumber(ms), 2 ^ 53))
end

local room = math.huge
if backlog > 0 then
  room = backlog - redis.call('XLEN', stream) - redis.call('ZCARD', schedule)
  if whole then
    local new, seen = 0, {}
    each(function(_, id, told)
      if not seen[id] and not (told.elsewhere and known(id, told.dedup_id)) then new = new + 1 end
      seen[id] = true
    end)
    if new > room then room = 0 end
  end
end

local reply, accepted, untold = {int(now)}, 0, false
each(function(place, id, told, from)
  local status, known_id, known_due = 0, nil, nil
  if told.elsewhere then
    known_id, known_due = known(id, told.dedup_id)
    if known_id then status = 1 end
  end
  if status == 0 and accepted >= room then status = 2 end
  if status ~= 0 then
    for _, value in ipairs({place, known_id or id, int(within_reason(known_due or told.due)), status}) do
      reply[#reply + 1] = value
    end
  elseif told.elsewhere or not again then
    accepted = accepted + 1
    accept(id, told, from)
    if told.elsewhere then
      schedule_messages(schedule, bodies, arrival, waiting)
      waiting, parts = {}, 0
      remember(id, told.dedup_id, told.due) -- now: it may come again, and what is known has been written
    else
      untold = true
    end
  end
end, function(id, body, told)
  if told.waits then
    wait(id, told.due, stamped .. body)
  else
    redis.call('XADD', stream, '*', 'id', id, 'body', body)
  end
  accepted, untold = accepted + 1, true
end)
schedule_messages(schedule, bodies, arrival, waiting)

-- A call that added nothing, and is to be confirmed, is remembered in their stead: else the server would confirm at once.
if accepted > 0 or confirm then
  if untold or accepted == 0 then
    if accepted == 0 then redis.call('HDEL', dedup, '') end -- the harmless first write: goes on at maxmemory
    remember_call(dedup, caller, number, now, ARGV[9])
    if not (called_at and same_stretch(called_at, now, window)) then
      redis.call('ZADD', recent, int(now + 2 * window), caller)
    end
  end
  forget_old(recent, dedup, now, 2 * accepted + 8)
  for _, key in ipairs({recent, dedup}) do keep(key, math.max(2 * window, dedup_window)) end
end

local earliest = earliest_due(schedule)
if earliest and (not first or earliest < first) then ring(bell) end
return reply
