-- What is scheduled, and its way to the stream.

local function earliest_due(schedule)
  local first = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
  return first[2] and math.ceil(first[2])
end

-- What stands before a body that is scheduled alone: the ms when it was published, in base 36, as millions of them wait
-- in memory; and a space.
local function stamp(ms)
  local text = ' '
  repeat
    local digit = ms % 36
    text = string.char(digit + (digit < 10 and 48 or 87)) .. text
    ms = math.floor(ms / 36)
  until ms == 0
  return text
end

-- In two parts: at a server of 32 bits `tonumber` knows of no greater ones.
local function read_stamp(text)
  return (tonumber(string.sub(text, 1, -6), 36) or 0) * 36 ^ 5 + tonumber(string.sub(text, -5), 36)
end

local dates = {} -- what stamps say

-- The fields of what is scheduled, as it stands in `bodies`; nil if it is no message. It is a body alone, behind its
-- stamp, or else a JSON array; and both stand behind the arrival number.
local function unpacked(value)
  local published = string.match(value or '', '^(%w+) ', 13)
  if published and #published <= 10 then
    dates[published] = dates[published] or int(read_stamp(published))
    return {'body', string.sub(value, 14 + #published), 'published', dates[published]}
  end
  local readable, fields = pcall(cjson.decode, string.sub(value or '', 13))
  return readable and type(fields) == 'table' and fields or nil
end

-- Takes id, due, packed, id, due, packed …, 500 messages at most. The member of the schedule is a fixed-width arrival
-- number and the id, so that equal due times sort by arrival.
local function schedule_messages(schedule, bodies, arrival, messages)
  if #messages == 0 then return end
  local number = redis.call('INCRBY', arrival, #messages / 3) - #messages / 3
  local fields, members, n = {}, {}, 0
  for i = 1, #messages, 3 do
    number = number + 1
    local arrived = string.format('%012x', number)
    fields[n + 1], fields[n + 2] = messages[i], arrived .. messages[i + 2]
    members[n + 1], members[n + 2] = messages[i + 1], arrived .. messages[i]
    n = n + 2
  end
  redis.call('HSET', bodies, unpack(fields))
  redis.call('ZADD', schedule, unpack(members))
end

-- Takes members out of the schedule, after they were added elsewhere: a fault leaves a duplicate, not a loss. In a slot
-- that is being moved a key that was deleted is out of reach: so what is left is counted before.
local function unschedule(schedule, bodies, arrival, members, ids)
  if #members == 0 then return end
  local left = redis.call('ZCARD', schedule)
  left = left - redis.call('ZREM', schedule, unpack(members))
  redis.call('HDEL', bodies, unpack(ids))
  if left == 0 then redis.call('DEL', arrival) end
end

-- Makes a dead letter of what is scheduled and is no message.
local function bury_scheduled(dead, id, due, packed)
  redis.call('XADD', dead, '*', 'id', id, 'due', due, 'raw', packed or '', 'deliveries', '0',
    'reason', 'malformed', 'error', 'scheduled body: not an array of fields')
end

-- Moves up to `limit` due messages to the stream, fewer if they are large, in order of (due, arrival). What is no message
-- goes to the dead stream, and stops nothing. Returns how many were moved.
local function promote_due(stream, schedule, bodies, arrival, dead, now, limit)
  local due = redis.call('ZRANGEBYSCORE', schedule, '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, limit)
  local members, ids, bytes = {}, {}, 0
  for i = 1, #due, 2 do
    if bytes > ENOUGH_BYTES then break end
    local id = string.sub(due[i], 13)
    local packed = redis.call('HGET', bodies, id)
    local fields, due_ms = unpacked(packed), string.match(due[i + 1], '^%d+$') or int(due[i + 1])
    local added = fields and #fields > 0 and #fields % 2 == 0 and #fields <= MAX_VALUES
    if added then
      added = not redis.pcall('XADD', stream, '*', 'id', id, 'due', due_ms, unpack(fields)).err
    end
    if not added then bury_scheduled(dead, id, due_ms, packed) end
    members[#members + 1] = due[i]
    ids[#ids + 1] = id
    bytes = bytes + #(packed or '')
  end
  unschedule(schedule, bodies, arrival, members, ids)
  return #members
end
