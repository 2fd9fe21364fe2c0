-- Reads a page of what is pending, in the order of the stream.
--
-- KEYS[1] stream STREAM ready and pending messages
-- ARGV[1] group string
-- ARGV[2] start string  stream id, '(' before it to exclude it
-- ARGV[3] limit integer messages at most
-- Returns per message: stream id, consumer, deliveries, fields; none of these where the entry was deleted
-- Cost: O(limit)

local stream = KEYS[1]
local refusal = wrong_type(stream, 'stream')
if refusal then return refusal end

local pending = redis.pcall('XPENDING', stream, ARGV[1], ARGV[2], '+', tonumber(ARGV[3]))
if pending.err then return {} end -- no group: nothing is pending
local reply = {}
for i, entry in ipairs(pending) do
  local found = redis.call('XRANGE', stream, entry[1], entry[1])[1]
  reply[i] = {entry[1], entry[2], entry[4], found and found[2] or {}}
end
return reply
