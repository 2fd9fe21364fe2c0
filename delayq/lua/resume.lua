-- Has a lane that was halted go on: with the message it stopped at, its deliveries forgotten, or past it.
--
-- KEYS[1] halted   HASH   the entry that the lane stopped at, and why
-- KEYS[2] stream   STREAM ready and pending messages
-- KEYS[3] dead     STREAM dead letters
-- KEYS[4] schedule ZSET   scheduled messages by due ms
-- KEYS[5] bodies   HASH   their fields
-- KEYS[6] bell     STREAM rung at a new earliest due time
-- KEYS[7] parked   HASH   keys that wait, to the id of what they wait for
-- KEYS[8] waiting  ZSET   their messages, in order
-- KEYS[9] vacancy  STREAM rung so that the active consumer looks at once
-- ARGV[1] now   integer ms, or '' for the server's time
-- ARGV[2] group string
-- ARGV[3] skip  integer 1 to make a dead letter of the message
-- Returns the message's id, or '' if the lane is not halted
-- Cost: O(log n)

local halted, stream, dead, schedule, bodies = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local bell, parked, waiting, vacancy = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local parking = {parked = parked, waiting = waiting, schedule = schedule, bodies = bodies, bell = bell}
local group, skip = ARGV[2], ARGV[3] == '1'
local refusal = wrong_type(halted, 'hash', stream, 'stream', dead, 'stream', schedule, 'zset', bodies, 'hash',
  bell, 'stream', parked, 'hash', waiting, 'zset', vacancy, 'stream')
if refusal then return refusal end

local entry, id, reason, said = unpack(redis.call('HMGET', halted, 'entry', 'id', 'reason', 'error'))
if redis.call('EXISTS', halted) == 0 then return '' end
entry = entry or '' -- another program may have left the others alone
redis.call('PERSIST', halted) -- the harmless first write: goes on at maxmemory
local pending = redis.pcall('XPENDING', stream, group, entry, entry, 1)[1] -- an error, too, has no [1]
if pending and skip then
  bury(stream, group, dead, parking, now_ms(ARGV[1]), entry, pending[4], reason or '', said or '')
elseif pending then
  redis.call('XCLAIM', stream, group, pending[2], 0, entry, 'RETRYCOUNT', 0, 'JUSTID')
end
redis.call('DEL', halted)
ring(vacancy)
return id or ''
