-- Delivers again messages that are pending under the caller, counting the delivery.
--
-- KEYS[1] lease  HASH   the consumer's lease
-- KEYS[2] stream STREAM ready and pending messages
-- ARGV[1] epoch    string of the holder
-- ARGV[2] group    string
-- ARGV[3] consumer string the holder
-- ARGV[4…] stream ids
-- Returns per message still pending under the caller: stream id, deliveries, fields
-- Cost: O(1) a message

local lease, stream = KEYS[1], KEYS[2]
local group, consumer = ARGV[2], ARGV[3]
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end

local reply = {}
for i = 4, #ARGV do
  local pending = redis.call('XPENDING', stream, group, ARGV[i], ARGV[i], 1, consumer)[1]
  if pending then
    local claimed = redis.call('XCLAIM', stream, group, consumer, 0, ARGV[i])[1]
    if claimed then
      reply[#reply + 1] = {ARGV[i], pending[4] + 1, claimed[2]}
    else
      redis.call('XACK', stream, group, ARGV[i])
    end
  end
end
return reply
