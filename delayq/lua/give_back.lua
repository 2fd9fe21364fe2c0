-- Takes back the last delivery of messages that were fetched and not begun: it does not count. Repeated, it changes
-- nothing.
--
-- KEYS[1] lease  HASH   the consumer's lease
-- KEYS[2] stream STREAM ready and pending messages
-- ARGV[1] epoch    string of the holder
-- ARGV[2] group    string
-- ARGV[3] consumer string the holder
-- ARGV[4…] per message, 500 at most: stream id, deliveries without this one
-- Returns messages that are pending under the caller
-- Cost: O(1) a message

local lease, stream = KEYS[1], KEYS[2]
local group, consumer = ARGV[2], ARGV[3]
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end

local given = 0
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  if redis.pcall('XPENDING', stream, group, id, id, 1, consumer)[1] then -- an error, too, has no [1]
    uncount(stream, group, consumer, ARGV[i + 1], {id})
    given = given + 1
  end
end
return given
