-- Claims pending messages of one competing consumer that is dead, without counting a delivery, and deletes it
-- when it owns nothing. Dead is: its lease is not of its epoch any more, or names a connection seen to be gone.
--
-- KEYS[1] lease  HASH   the caller's lease
-- KEYS[2] stream STREAM ready and pending messages
-- KEYS[3] theirs HASH   the lease of the dead
-- ARGV[1] epoch       string  of the caller
-- ARGV[2] group       string
-- ARGV[3] consumer    string  the caller
-- ARGV[4] source      string  the dead
-- ARGV[5] their_epoch string  under which it last lived
-- ARGV[6] connection  string  its connection, seen to be gone; '' where its lease was over
-- ARGV[7] limit       integer messages at most
-- Returns messages claimed: fewer than `limit`, and there are no more; -1 if it lives
-- Cost: O(limit)

local lease, stream, theirs = KEYS[1], KEYS[2], KEYS[3]
local group, me, source, their_epoch, limit = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[7])
local refusal = wrong_type(theirs, 'hash') or fence(lease, ARGV[1])
if refusal then return refusal end

local held = redis.call('HMGET', theirs, 'epoch', 'connection')
if held[1] == their_epoch then
  if held[2] ~= ARGV[6] then return -1 end
  redis.call('DEL', theirs) -- from here on it is fenced off
end
local pending = redis.pcall('XPENDING', stream, group, '-', '+', limit, source)
if pending.err then return 0 end -- no group: nothing is pending
local ids = {}
for _, entry in ipairs(pending) do ids[#ids + 1] = entry[1] end
claim(stream, group, me, ids)
if #ids < limit then redis.call('XGROUP', 'DELCONSUMER', stream, group, source) end
return #ids
