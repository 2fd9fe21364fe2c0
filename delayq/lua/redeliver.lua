-- Delivers again messages that are pending under the caller, counting the delivery.
--
-- KEYS[1] lease  HASH   the consumer's lease
-- KEYS[2] stream STREAM ready and pending messages
-- ARGV[1] epoch    string of the holder
-- ARGV[2] group    string
-- ARGV[3] consumer string the holder
-- ARGV[4] call     string an id of this call: made again, it has the same
-- ARGV[5…] stream ids, 1000 at most
-- Returns per message still pending under the caller: stream id, deliveries, fields
-- Cost: O(1) a message

local lease, stream = KEYS[1], KEYS[2]
local group, consumer = ARGV[2], ARGV[3]
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end

local count_up = repeated(lease, ARGV[4]) and 0 or 1
local reply = {}
for i = 5, #ARGV do
  local id = ARGV[i]
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1, consumer)[1] -- an error, too, has no [1]
  if pending then
    local deliveries = pending[4] + count_up
    local claimed = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', deliveries)[1]
    if claimed then
      reply[#reply + 1] = {id, deliveries, claimed[2]}
    else
      redis.call('XACK', stream, group, id)
    end
  end
end
return reply
