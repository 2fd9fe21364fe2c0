-- Has a lane that was halted go on: with the message it stopped at, its deliveries forgotten, or past it.
--
-- KEYS[1] halted  HASH   the entry that the lane stopped at, and why
-- KEYS[2] stream  STREAM ready and pending messages
-- KEYS[3] dead    STREAM dead letters
-- KEYS[4] parked  HASH   keys that wait, to the id of what they wait for
-- KEYS[5] waiting ZSET   their messages, in order
-- KEYS[6] vacancy STREAM rung so that the active consumer looks at once
-- ARGV[1] group string
-- ARGV[2] skip  integer 1 to make a dead letter of the message
-- Returns the message's id, or '' if the lane is not halted
-- Cost: O(1)

local halted, stream, dead, parked, waiting, vacancy = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local group, skip = ARGV[1], ARGV[2] == '1'
local refusal = wrong_type(halted, 'hash', stream, 'stream', dead, 'stream', parked, 'hash', waiting, 'zset',
  vacancy, 'stream')
if refusal then return refusal end

local entry, id, reason, said = unpack(redis.call('HMGET', halted, 'entry', 'id', 'reason', 'error'))
if redis.call('EXISTS', halted) == 0 then return '' end
entry = entry or '' -- foreign hands may have left the others alone
redis.call('PERSIST', halted) -- the harmless first write: goes on at maxmemory
local pending = redis.pcall('XPENDING', stream, group, entry, entry, 1)[1] -- an error, too, has no [1]
if pending and skip then
  bury(stream, group, dead, parked, waiting, entry, pending[4], reason or '', said or '')
elseif pending then
  redis.call('XCLAIM', stream, group, pending[2], 0, entry, 'RETRYCOUNT', 0, 'JUSTID')
end
redis.call('DEL', halted)
ring(vacancy)
return id or ''
