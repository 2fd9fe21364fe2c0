-- Acknowledges the last batch and delivers the next, in one round trip: what is pending after `start`, in the
-- order of the stream, then what is new. A repeated call, after a lost reply, delivers the same again.
--
-- A message's last delivery is made alone: a neighbour in the batch that kills the process must not use up
-- the deliveries of the others.
--
-- KEYS[1] lease  HASH   the consumer's lease
-- KEYS[2] stream STREAM ready and pending messages
-- ARGV[1] epoch    string  of the holder
-- ARGV[2] group    string
-- ARGV[3] consumer string  the holder
-- ARGV[4] scope    string  whose pending messages: a consumer, or '' for everyone's
-- ARGV[5] start    string  stream id, '(' before it to exclude it
-- ARGV[6] count    integer messages at most
-- ARGV[7] last     integer deliveries, of which the last is made alone; 0 for no end
-- ARGV[8] call     string  an id of this call: made again, it has the same
-- ARGV[9…] stream ids to acknowledge, 1000 at most
-- Returns last id of the stream ('' unless nothing was delivered), then per message: stream id, deliveries, fields
-- Cost: O(count)

local lease, stream = KEYS[1], KEYS[2]
local group, consumer, scope = ARGV[2], ARGV[3], ARGV[4]
local start, count, last = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end

acknowledge(stream, group, {unpack(ARGV, 9)})
-- A call made again delivers what it delivered, and counts nothing.
local before = repeated(lease, ARGV[8]) and tonumber(redis.call('HGET', lease, 'delivered') or 0) or 0
if before > 0 then count = before end
local reply = {''}
local function answer()
  redis.call('HSET', lease, 'delivered', #reply - 1)
  return reply
end

local query = {'XPENDING', stream, group, start, '+', count}
if scope ~= '' then query[7] = scope end
local pending = redis.pcall(unpack(query))
if pending.err then return redis.error_reply('NOGROUP ' .. stream .. ' ' .. group) end
for i, entry in ipairs(pending) do
  local id, deliveries = entry[1], before > 0 and entry[4] or entry[4] + 1
  local alone = before == 0 and last > 0 and deliveries >= last
  if alone and #reply > 1 then return answer() end
  local claimed = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', deliveries)[1]
  if claimed then
    reply[#reply + 1] = {id, deliveries, claimed[2]}
    if alone then return answer() end
  else
    redis.call('XACK', stream, group, id) -- deleted by foreign hands: nothing is left to handle
  end
end
if #pending == count or before > 0 then return answer() end

local new = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count - #pending, 'STREAMS', stream, '>')
if new then
  for _, entry in ipairs(new[1][2]) do reply[#reply + 1] = {entry[1], 1, entry[2]} end
elseif #reply == 1 then
  local about = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then reply[1] = about[i + 1] end
  end
end
return answer()
