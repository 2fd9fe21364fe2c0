-- Stands before every script.

-- Names and values of a message together; Lua cannot hand on some thousands at once.
local MAX_VALUES = 256

-- The group of a queue's own handler.
local DEFAULT_GROUP = 'delayq'

-- The server's time in ms, or the time given (tests own it).
local function now_ms(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The time from now until `due` ms, in µs: as a wait it must be no longer than it is. -1 if there is no `due`.
local function wait_us(due, now, given)
  if not due then return -1 end
  local past = 0
  if given == '' then past = redis.call('TIME')[2] % 1000 end
  return math.max(0, (due - now) * 1000 - past)
end

-- Redis writes large numbers as 1e+12 unless told otherwise. A part of a ms is the next whole one.
local function int(number)
  return string.format('%.0f', math.ceil(number))
end

-- A whole number as we write it; nil for anything else, and for what is too large to be counted on from.
local function whole(text)
  return text and #text <= 15 and string.match(text, '^%d+$') and tonumber(text) or nil
end

-- A script that fails half-way is not rolled back: so look at every key before the first write.
-- Takes key, type, key, type …; returns a refusal, or nil.
local function wrong_type(...)
  local pairs_ = {...}
  for i = 1, #pairs_, 2 do
    local found = redis.call('TYPE', pairs_[i]).ok
    if found ~= 'none' and found ~= pairs_[i + 1] then
      return redis.error_reply('WRONGKEY ' .. pairs_[i] .. ' is a ' .. found .. ', not a ' .. pairs_[i + 1])
    end
  end
end

-- The fence: only the holder of `lease` under `epoch` may go on. At maxmemory only the first write of a script
-- is refused, if it may use memory: so the first one is an HDEL of nothing. Returns a refusal, or nil.
local function fence(lease, epoch)
  if redis.call('HGET', lease, 'epoch') ~= epoch then
    return redis.error_reply('LEASELOST epoch ' .. epoch .. ' is not the one that holds ' .. lease)
  end
  redis.call('HDEL', lease, '')
end

-- Tells whether a call is made again after a lost reply: then its deliveries were counted already.
local function repeated(lease, call)
  if redis.call('HGET', lease, 'call') == call then return true end
  redis.call('HSET', lease, 'call', call)
  return false
end

-- Tells of the groups of a stream: the others than `group`, and it, or nil. Without a stream there are none. Every
-- server tells name, consumers, pending and last-delivered-id first, and from 7.0 on entries-read and lag.
local function groups_of(stream, group)
  local others, own = {}, nil
  for _, about in ipairs(redis.pcall('XINFO', 'GROUPS', stream)) do
    local found = {name = about[2], pending = about[6], read = about[8], lag = about[12]}
    if found.name == group then own = found else others[#others + 1] = found end
  end
  return others, own
end

-- Tells whether a whole number is less than another; of any length, as text.
local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

-- Tells whether a stream id comes after another.
local function comes_after(id, other)
  local ms, number = string.match(id, '^(%d+)%-(%d+)$')
  local other_ms, other_number = string.match(other, '^(%d+)%-(%d+)$')
  if ms ~= other_ms then return less(other_ms, ms) end
  return less(other_number, number)
end

-- Deletes those entries that every one of these groups is done with: has read, and has not pending.
local function delete_done(stream, groups, ids)
  local done = ids
  if #groups > 0 then
    done = {}
    for _, id in ipairs(ids) do
      local wanted = false
      for _, group in ipairs(groups) do
        wanted = wanted or comes_after(id, group.read)
          or group.pending > 0 and #redis.call('XPENDING', stream, group.name, id, id, 1) > 0
      end
      if not wanted then done[#done + 1] = id end
    end
  end
  if #done > 0 then redis.call('XDEL', stream, unpack(done)) end
  return done
end

-- Acknowledges stream ids: they leave Redis, unless another group is not done with them. Returns how many were pending.
local function acknowledge(stream, group, ids, others)
  if #ids == 0 then return 0 end
  local acked = redis.call('XACK', stream, group, unpack(ids))
  delete_done(stream, others or groups_of(stream, group), ids)
  return acked
end

-- Takes back deliveries of pending messages: they stay pending for `consumer`, delivered `deliveries` times.
local function uncount(stream, group, consumer, deliveries, ids)
  if #ids == 0 then return end
  local command = {'XCLAIM', stream, group, consumer, 0, unpack(ids)}
  for _, word in ipairs({'RETRYCOUNT', deliveries, 'JUSTID'}) do command[#command + 1] = word end
  redis.call(unpack(command))
end

-- How often a message was delivered before it came to the stream: its last field but for its place, and for whom it is.
-- One that is for another group is not delivered at all.
local function earlier_deliveries(fields, group)
  local last = #fields - 1
  if fields[last] == 'for' then
    if fields[last + 1] ~= group then return 0 end
    last = last - 2
  end
  for i = last, last - 2, -2 do
    if fields[i] == 'deliveries' then return tonumber(fields[i + 1]) or 0 end
  end
  return 0
end

-- Rings a bell: whoever waits on it looks again. It fades after a minute, so that no key is left behind.
local function ring(bell)
  redis.call('XADD', bell, 'MAXLEN', 1, '*', 'rung', '1')
  redis.call('PEXPIRE', bell, 60000)
end

local function earliest_due(schedule)
  local first = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
  return first[2] and math.ceil(first[2])
end

-- A message that waits for another one of its key is held: it is not due before that one is settled, which makes it due
-- (`let_go`). Its score is half a ms more than a whole number, by which it is known, and so late that it is reached only
-- if nobody let it go, as where foreign hands took away what it waited for: to look at all that wait is then no more
-- than 100 calls a second.
local HELD_MS, HELD_EACH_MS = 10000, 10

local function held_until(since, waiting)
  return int(since + HELD_MS + HELD_EACH_MS * redis.call('ZCARD', waiting)) .. '.5'
end

local function is_held(score)
  return score and tonumber(score) % 1 ~= 0
end

-- The fields of what is scheduled, as it stands in `bodies`; nil if it is no message. A body alone is packed as the
-- ms when it was published, a space, and the body; all else as a JSON array. Both stand behind the arrival number.
local function unpacked(value)
  local packed = string.sub(value or '', 13)
  local published, body = string.match(packed, '^(%d+) (.*)$')
  if published then return {'body', body, 'published', published} end
  local readable, fields = pcall(cjson.decode, packed)
  return readable and type(fields) == 'table' and fields or nil
end

-- Takes id, due, packed, id, due, packed …, 500 messages at most. The member of the schedule is a fixed-width arrival
-- number and the id, so that equal due times sort by arrival.
local function schedule_messages(schedule, bodies, arrival, messages)
  if #messages == 0 then return end
  local number = redis.call('INCRBY', arrival, #messages / 3) - #messages / 3
  local fields, members = {}, {}
  for i = 1, #messages, 3 do
    number = number + 1
    local arrived = string.format('%012x', number)
    fields[#fields + 1] = messages[i]
    fields[#fields + 1] = arrived .. messages[i + 2]
    members[#members + 1] = messages[i + 1]
    members[#members + 1] = arrived .. messages[i]
  end
  redis.call('HSET', bodies, unpack(fields))
  redis.call('ZADD', schedule, unpack(members))
end

-- Takes members out of the schedule, after they were added elsewhere: a fault leaves a duplicate, not a loss.
local function unschedule(schedule, bodies, arrival, members, ids)
  if #members == 0 then return end
  redis.call('ZREM', schedule, unpack(members))
  redis.call('HDEL', bodies, unpack(ids))
  if redis.call('EXISTS', schedule) == 0 then redis.call('DEL', arrival) end
end

-- The value of a field; of equal names the last one's, as for a handler.
local function field(fields, name)
  for i = #fields - 1, 1, -2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

-- Returns what tells for a dead letter the id of its message, if it is one of `ids`, or they are none, and died
-- for `reason`, or that is ''.
local function wanted_letters(reason, ids)
  local listed = {}
  for _, id in ipairs(ids) do listed[id] = true end
  return function(entry, fields)
    local id = field(fields, 'id') or field(fields, 'entry') or entry
    if #ids > 0 and not listed[id] then return nil end
    if reason ~= '' and field(fields, 'reason') ~= reason then return nil end
    return id
  end
end

-- Makes a dead letter of what is scheduled and is no message.
local function bury_scheduled(dead, id, due, packed)
  redis.call('XADD', dead, '*', 'id', id, 'due', due, 'raw', packed or '', 'deliveries', '0',
    'reason', 'malformed', 'error', 'scheduled body: not an array of fields')
end

-- Moves up to `limit` due messages to the stream, in order of (due, arrival). What is no message goes to the
-- dead stream, and stops nothing. Returns how many were moved.
local function promote_due(stream, schedule, bodies, arrival, dead, now, limit)
  local due = redis.call('ZRANGEBYSCORE', schedule, '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, limit)
  local members, ids = {}, {}
  for i = 1, #due, 2 do
    local member = due[i]
    local id = string.sub(member, 13)
    members[#members + 1] = member
    ids[#ids + 1] = id
  end
  if #members == 0 then return 0 end
  local packed = redis.call('HMGET', bodies, unpack(ids))
  for i = 1, #members do
    local fields, due_ms = unpacked(packed[i]), int(due[2 * i])
    local added = fields and #fields > 0 and #fields % 2 == 0 and #fields <= MAX_VALUES
    if added then
      added = not redis.pcall('XADD', stream, '*', 'id', ids[i], 'due', due_ms, unpack(fields)).err
    end
    if not added then
      bury_scheduled(dead, ids[i], due_ms, packed[i])
    end
  end
  unschedule(schedule, bodies, arrival, members, ids)
  return #members
end

-- Has fields say for which group they are, where there are others.
local function address(fields, group, others)
  if group == DEFAULT_GROUP and #others == 0 then return end
  fields[#fields + 1] = 'for'
  fields[#fields + 1] = group
end

-- The place of a message in the order of its key: the id of the entry by which it first came to the stream.
local function place_of(entry, fields)
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'place' and type(value) == 'string' and string.match(value, '^%d+%-%d+$') then return value end
  end
  return entry
end

-- How the rows of a key begin in `waiting`, and that of one place in its order: no beginning is that of another. A row
-- is a message of a parked key that is not settled, wherever it is; the first of a key is whom the others wait for.
local function row_of(key, place)
  local begins = string.format('%08x', #key) .. key
  if not place then return begins end
  local ms, number = string.match(place, '^(%d+)%-(%d+)$')
  return begins .. string.format('%016x%016x', ms, number)
end

local function rows_from(waiting, begins, at, count)
  return redis.call('ZRANGE', waiting, '[' .. begins, '(' .. begins .. 'g', 'BYLEX', 'LIMIT', at, count)
end

local function first_row(waiting, begins)
  return rows_from(waiting, begins, 0, 1)[1]
end

local function id_in(row, key)
  return string.sub(row, #key + 42) -- behind 8 digits, the key, 32 digits, and a space
end

-- Returns the id of the message that a key waits for, and its row; nothing if the key is free. `parked` is told.
local function blocker_of(parked, waiting, key)
  local row = first_row(waiting, row_of(key))
  if not row then
    redis.call('HDEL', parked, key)
    return
  end
  local id = id_in(row, key)
  redis.call('HSET', parked, key, id)
  return id, row
end

-- Has a message wait in its place, under its id of now. Returns its row.
local function wait_in_place(waiting, key, place, id)
  local begins = row_of(key, place)
  local before, row = first_row(waiting, begins), begins .. ' ' .. id
  if before and before ~= row then redis.call('ZREM', waiting, before) end
  redis.call('ZADD', waiting, 0, row)
  return row
end

-- What a stream entry is in the schedule: its id, its key, and its fields packed, with the deliveries up to now;
-- with '' for these, those it had before. If its key is or will be parked, it keeps its place in the key's order.
-- If there are others than its group, it comes back for that one alone, which the last field says.
-- An id that is scheduled already, which only foreign hands bring about, is told apart: neither replaces the other.
local function as_scheduled(bodies, entry, fields, deliveries, parking, group, others)
  local id, key, due, published, packed = entry, nil, string.match(entry, '^%d+'), nil, {}
  local place = place_of(entry, fields)
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'id' then id = value
    elseif name == 'due' then due = value
    elseif name == 'published' then published = value
    elseif name == 'deliveries' then
      if deliveries == '' then deliveries = value end
    elseif name ~= 'place' and name ~= 'for' then
      if name == 'key' then key = value end
      packed[#packed + 1] = name
      packed[#packed + 1] = value
    end
  end
  if deliveries == '' then deliveries = '0' end
  for _, value in ipairs({'published', published or due, 'deliveries', deliveries}) do packed[#packed + 1] = value end
  if parking then
    packed[#packed + 1] = 'place'
    packed[#packed + 1] = place
  end
  address(packed, group, others)
  if redis.call('HEXISTS', bodies, id) == 1 then id = id .. '~' .. entry end
  return id, key, cjson.encode(packed), place
end

-- Has the first few messages of a key that are held be due now, if half as many are not under way: so one that fails
-- sends no more than these round. Each is due a ms after the one before it, since they come in the order of their
-- arrival else, in which they went back. `parking` names the keys that this takes: parked, waiting, schedule, bodies, bell.
local LET_GO = 32

local function let_go(parking, key, now)
  local begins = row_of(key)
  local function held(row)
    local id = row and id_in(row, key)
    local packed = id and redis.call('HGET', parking.bodies, id)
    local member = packed and string.sub(packed, 1, 12) .. id
    return member and is_held(redis.call('ZSCORE', parking.schedule, member)) and member
  end
  local function held_at(at) return held(rows_from(parking.waiting, begins, at, 1)[1]) end
  if not (held_at(0) or held_at(LET_GO / 2)) then return end
  local due = {}
  for i, row in ipairs(rows_from(parking.waiting, begins, 0, LET_GO)) do
    local member = held(row)
    if member then
      due[#due + 1] = int(now - LET_GO + i)
      due[#due + 1] = member
    end
  end
  local first = earliest_due(parking.schedule)
  redis.call('ZADD', parking.schedule, unpack(due))
  if tonumber(due[1]) < first then ring(parking.bell) end
end

-- Has the messages of a key wait no more for the one that had this place, if it is parked, and the next ones come.
local function unpark(parking, key, place, now)
  local row = key and place and first_row(parking.waiting, row_of(key, place))
  if not row then return end
  redis.call('ZREM', parking.waiting, row)
  if blocker_of(parking.parked, parking.waiting, key) then let_go(parking, key, now) end
end

-- Forgets calls, ids and dedup ids that are not to be known any more, up to `limit` of them. Where that is twice what
-- came in, or more, they do not pile up, and no call is long.
local function forget_old(recent, dedup, now, limit)
  local old = redis.call('ZRANGEBYSCORE', recent, '-inf', now, 'LIMIT', 0, limit)
  if #old > 0 then redis.call('ZREM', recent, unpack(old)) end
  for _, member in ipairs(old) do
    if string.sub(member, 1, 2) == 'd:' then redis.call('HDEL', dedup, string.sub(member, 3)) end
  end
end

-- Forgets the id of a message that is cancelled: it may be published anew. Nobody waits for it any more.
local function forget(recent, parking, id, packed, now)
  redis.call('ZREM', recent, 'i:' .. id)
  if not packed or redis.call('EXISTS', parking.waiting) == 0 then return end
  local fields = unpacked(packed)
  local key = fields and field(fields, 'key')
  if type(key) == 'string' then unpark(parking, key, place_of(nil, fields), now) end
end

-- Moves a pending message to the dead stream, with its fields, of which a bounded number is kept.
-- Returns 1, or 0 if the message is gone.
local function bury(stream, group, dead, parking, now, entry, deliveries, reason, error)
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  if found then
    local ours = {entry = true, deliveries = true, reason = true, error = true, place = true, ['for'] = true}
    local fields, key = {}, nil
    for i = 1, math.min(#found[2], MAX_VALUES), 2 do
      local name, value = found[2][i], found[2][i + 1]
      if name == 'key' then key = value end
      if not ours[name] then
        fields[#fields + 1] = name
        fields[#fields + 1] = value
      end
    end
    redis.call('XADD', dead, '*', 'entry', entry, 'deliveries', deliveries, 'reason', reason, 'error', error,
      unpack(fields))
    unpark(parking, key, place_of(entry, found[2]), now)
  end
  acknowledge(stream, group, {entry})
  return found and 1 or 0
end

-- Makes pending messages `consumer`'s own, without counting a delivery.
local function claim(stream, group, consumer, ids)
  if #ids == 0 then return end
  local command = {'XCLAIM', stream, group, consumer, 0, unpack(ids)}
  command[#command + 1] = 'JUSTID'
  redis.call(unpack(command))
end
