-- Counts what is where, and changes nothing.
--
-- KEYS[1] stream   STREAM ready and pending messages
-- KEYS[2] schedule ZSET   scheduled messages by due ms
-- KEYS[3] dead     STREAM dead letters
-- KEYS[4] lease    HASH   the lease of the lane
-- KEYS[5] parked   HASH   keys that wait for a message
-- KEYS[6] halted   HASH   the message that the lane stopped at
-- ARGV[1] now   integer ms, or '' for the server's time
-- ARGV[2] group string
-- ARGV[3] due   integer scheduled messages whose due time is told at most
-- ARGV[4] limit integer ready messages that are counted one by one at most, if need be; fewer if they are large
-- Returns now; scheduled, ready, pending, dead, keys parked; ms since the oldest became ready, or -1; holder, epoch
-- and since; fields of `halted`; due times, but of those that are held, among the first 256; consumers, each with what is pending for it
-- Cost: O(due + consumers + log n); with several groups O(limit)

local stream, schedule, dead, lease, parked, halted = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local group = ARGV[2]
local refusal = wrong_type(stream, 'stream', schedule, 'zset', dead, 'stream', lease, 'hash', parked, 'hash',
  halted, 'hash')
if refusal then return refusal end

local now = now_ms(ARGV[1])
local others, own = groups_of(stream, group)
local last, pending, first, consumers = own and own.read, 0, nil, {}
if own then
  local summary = redis.call('XPENDING', stream, group)
  pending, first = summary[1], summary[2]
  for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    consumers[#consumers + 1] = about[2]
    consumers[#consumers + 1] = about[4]
  end
end
local unread = last and '(' .. last or '-'
if not first and (own or #others == 0) then
  local entry = redis.call('XRANGE', stream, unread, '+', 'COUNT', 1)[1]
  first = entry and entry[1]
end

-- Servers from 7.0 on count what a group has not read, if what was deleted allows it. Else it is little, or, for a group
-- that is slow, what it has read is.
local function count_unread()
  local limit = tonumber(ARGV[4])
  local left, more = read_entries(stream, unread, '+', limit)
  if not more then return #left end
  local read, more_read = read_entries(stream, '-', last, limit)
  return more_read and #left or redis.call('XLEN', stream) - #read
end

-- Where there are others, what is kept may be for them.
local function ready()
  if #others == 0 then return math.max(0, redis.call('XLEN', stream) - pending) end
  return own and (own.lag or count_unread()) or 0
end

local oldest = first and math.max(0, now - tonumber(string.match(first, '^%d+'))) or -1
local due, first_few = {}, redis.call('ZRANGE', schedule, 0, 255, 'WITHSCORES')
for i = 2, #first_few, 2 do
  if #due < tonumber(ARGV[3]) and not is_held(first_few[i]) then due[#due + 1] = first_few[i] end
end
local counts = {
  redis.call('ZCARD', schedule), ready(), pending,
  redis.call('XLEN', dead), redis.call('HLEN', parked),
}
return {
  now, counts, oldest, redis.call('HMGET', lease, 'holder', 'epoch', 'since'), redis.call('HGETALL', halted),
  due, consumers,
}
