-- Acknowledges the last batch and delivers the next, in one round trip: what is pending after `start`, in the
-- order of the stream, then what is new. A repeated call, after a lost reply, delivers the same again. What is for another
-- group is done with unseen.
--
-- A message's last delivery is made alone: a neighbour that kills the process must not use it up. So it is held back
-- while the caller has others in hand, or they are in this batch.
--
-- KEYS[1] lease  HASH   the consumer's lease
-- KEYS[2] stream STREAM ready and pending messages
-- ARGV[1] epoch    string  of the holder
-- ARGV[2] group    string
-- ARGV[3] consumer string  the holder
-- ARGV[4] scope    string  whose pending messages: a consumer, or '' for everyone's
-- ARGV[5] start    string  stream id, '(' before it to exclude it
-- ARGV[6] count    integer messages at most
-- ARGV[7] bytes    integer of values, beyond which no more is added
-- ARGV[8] last     integer deliveries, of which the last is made alone; 0 for no end
-- ARGV[9] busy     integer 1 if the caller has others in hand
-- ARGV[10] call    string  an id of this call: made again, it has the same
-- ARGV[11…] stream ids to acknowledge, 1000 at most
-- Returns last id of the stream ('' unless it has nothing more), 1 if a last delivery was held back, then what was
--         pending, each: stream id, deliveries, fields; and what is new, each: stream id, fields
-- Cost: O(count), and some 1000 passed unseen

local lease, stream = KEYS[1], KEYS[2]
local group, consumer, scope, start = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local count, bytes, last, busy = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] == '1'
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end

acknowledge(stream, group, {unpack(ARGV, 11)})
-- A call made again delivers what it delivered, and counts nothing.
local again = repeated(lease, ARGV[10])
local before = again and tonumber(redis.call('HGET', lease, 'delivered') or 0) or 0
if before > 0 then count = before end
local old, new, passed = {}, {}, {}
local function answer(last_id, held_back)
  acknowledge(stream, group, passed)
  redis.call('HSET', lease, 'delivered', #old + #new)
  return {last_id, held_back, old, new}
end

-- Passes an entry if it is for another group; tells whether it is.
local function passes(id, fields)
  local another = is_for_another(fields, group)
  if another then passed[#passed + 1] = id end
  return another
end

-- Tells whether this is a message's last delivery of several.
local function is_last(deliveries, fields)
  return before == 0 and last > 0 and deliveries + earlier_deliveries(fields) >= last
end

-- Tells whether there is room for more after this one.
local function has_room(fields)
  bytes = bytes - bytes_of(fields)
  return bytes > 0 or before > 0
end

local query = {'XPENDING', stream, group, start, '+', count}
if scope ~= '' then query[7] = scope end
local pending = redis.pcall(unpack(query))
if pending.err then return redis.error_reply('NOGROUP ' .. stream .. ' ' .. group) end
for _, entry in ipairs(pending) do
  local id, deliveries = entry[1], before > 0 and entry[4] or entry[4] + 1
  local claimed = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', deliveries)[1]
  if not claimed then
    redis.call('XACK', stream, group, id) -- deleted by another program: nothing is left to handle
  elseif passes(id, claimed[2]) then
    if not has_room(claimed[2]) then return answer('', 0) end
  elseif is_last(deliveries, claimed[2]) and (busy or #old > 0) then
    uncount(stream, group, consumer, deliveries - 1, {id})
    return answer('', 1)
  else
    old[#old + 1] = {id, deliveries, claimed[2]}
    if is_last(deliveries, claimed[2]) or not has_room(claimed[2]) then return answer('', 0) end
  end
end
if #pending == count or before > 0 then return answer('', 0) end

-- What is new comes in parts that grow, so that large ones are noticed before there are many.
local MAX_PASSED = 500
local part = 1
while #old + #new < count and #passed < MAX_PASSED do
  part = math.min(2 * part, count - #old - #new)
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', part, 'STREAMS', stream, '>')
  if not read then break end
  local room, entries = true, read[1][2]
  for i, entry in ipairs(entries) do
    if passes(entry[1], entry[2]) then
      room = has_room(entry[2]) and room
    elseif is_last(1, entry[2]) then
      local rest = {}
      local alone = not busy and #old + #new == 0
      for at = alone and i + 1 or i, #entries do rest[#rest + 1] = entries[at][1] end
      uncount(stream, group, consumer, 0, rest)
      if alone then new[1] = entry end
      return answer('', alone and 0 or 1)
    else
      new[#new + 1] = entry
      room = has_room(entry[2]) and room
    end
  end
  if not room or #entries < part then return answer('', 0) end
end
if #old + #new > 0 or #passed >= MAX_PASSED then return answer('', 0) end

local about = redis.call('XINFO', 'STREAM', stream)
for i = 1, #about, 2 do
  if about[i] == 'last-generated-id' then return answer(about[i + 1], 0) end
end
