-- Delivers again messages that are pending under the caller, counting the delivery. Repeated, it counts no other. What is
-- for another group is done with unseen.
--
-- KEYS[1] lease  HASH   the consumer's lease
-- KEYS[2] stream STREAM ready and pending messages
-- ARGV[1] epoch    string of the holder
-- ARGV[2] group    string
-- ARGV[3] consumer string the holder
-- ARGV[4…] per message, 500 at most: stream id, deliveries with this one
-- Returns per message still pending under the caller: stream id, deliveries, fields
-- Cost: O(1) a message

local lease, stream = KEYS[1], KEYS[2]
local group, consumer = ARGV[2], ARGV[3]
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end

local reply = {}
for i = 4, #ARGV, 2 do
  local id, deliveries = ARGV[i], ARGV[i + 1]
  if redis.pcall('XPENDING', stream, group, id, id, 1, consumer)[1] then -- an error, too, has no [1]
    local claimed = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', deliveries)[1]
    if claimed and not is_for_another(claimed[2], group) then
      reply[#reply + 1] = {id, tonumber(deliveries), claimed[2]}
    else
      acknowledge(stream, group, {id})
    end
  end
end
return reply
