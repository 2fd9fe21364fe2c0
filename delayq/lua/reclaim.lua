-- Claims a part of the pending list, from its head on, without counting a delivery; at its end deletes the
-- consumers that own nothing. To be called until its first answer is ''.
--
-- KEYS[1] lease  HASH   the lease of the lane
-- KEYS[2] stream STREAM ready and pending messages
-- ARGV[1] epoch    string  of the holder
-- ARGV[2] group    string
-- ARGV[3] consumer string  the holder
-- ARGV[4] start    string  stream id, '(' before it to exclude it
-- ARGV[5] limit    integer messages at most
-- Returns start of the next call or '', names deleted, then per message claimed: the consumer it was pending for
-- Cost: O(limit)

local lease, stream = KEYS[1], KEYS[2]
local group, me, start, limit = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end

local pending = redis.pcall('XPENDING', stream, group, start, '+', limit)
if pending.err then return redis.error_reply('NOGROUP ' .. stream .. ' ' .. group) end
local reply, ids = {'', {}}, {}
for _, entry in ipairs(pending) do
  if entry[2] ~= me then
    ids[#ids + 1] = entry[1]
    reply[#reply + 1] = entry[2]
  end
end
claim(stream, group, me, ids)
if #pending == limit then
  reply[1] = '(' .. pending[#pending][1]
  return reply
end

for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local name, owned = about[2], about[4]
  if name ~= me and owned == 0 then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
    table.insert(reply[2], name)
  end
end
return reply
