-- Takes back the last delivery of messages that were fetched and not begun: it does not count.
--
-- KEYS[1] lease  HASH   the consumer's lease
-- KEYS[2] stream STREAM ready and pending messages
-- ARGV[1] epoch    string of the holder
-- ARGV[2] group    string
-- ARGV[3] consumer string the holder
-- ARGV[4] call     string an id of this call: made again, it changes nothing
-- ARGV[5…] stream ids, 1000 at most
-- Returns messages given back
-- Cost: O(1) a message

local lease, stream = KEYS[1], KEYS[2]
local group, consumer = ARGV[2], ARGV[3]
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end

local given = 0
if repeated(lease, ARGV[4]) then return given end
for i = 5, #ARGV do
  local id = ARGV[i]
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1, consumer)[1] -- an error, too, has no [1]
  if pending and pending[4] > 0 then
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', pending[4] - 1, 'JUSTID')
    given = given + 1
  end
end
return given
