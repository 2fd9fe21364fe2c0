-- Moves a pending message to the dead stream, with its fields, of which a bounded number is kept, and why it is there. Repeated, it changes nothing.
--
-- KEYS[1] lease  HASH   the consumer's lease
-- KEYS[2] stream STREAM ready and pending messages
-- KEYS[3] dead   STREAM dead letters
-- ARGV[1] epoch      string  of the holder
-- ARGV[2] group      string
-- ARGV[3] entry      string  stream id
-- ARGV[4] deliveries integer up to now
-- ARGV[5] reason     string  a few words
-- ARGV[6] error      string  the last error, bounded by the caller
-- Returns 1, or 0 if the message is gone
-- Cost: O(1)

local lease, stream, dead = KEYS[1], KEYS[2], KEYS[3]
local group, entry = ARGV[2], ARGV[3]
local refusal = wrong_type(stream, 'stream', dead, 'stream') or fence(lease, ARGV[1])
if refusal then return refusal end

local found = redis.call('XRANGE', stream, entry, entry)[1]
if not found then
  redis.call('XACK', stream, group, entry)
  return 0
end
local ours = {entry = entry, deliveries = ARGV[4], reason = ARGV[5], error = ARGV[6]}
local fields = {}
for i = 1, math.min(#found[2], MAX_VALUES), 2 do
  if not ours[found[2][i]] then
    fields[#fields + 1] = found[2][i]
    fields[#fields + 1] = found[2][i + 1]
  end
end
redis.call('XADD', dead, '*', 'entry', entry, 'deliveries', ARGV[4], 'reason', ARGV[5], 'error', ARGV[6],
  unpack(fields))
redis.call('XACK', stream, group, entry)
redis.call('XDEL', stream, entry)
return 1
