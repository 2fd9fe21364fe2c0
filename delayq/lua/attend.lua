-- Shows that a consumer takes part in sharing the lanes of its queue, and tells who else does.
--
-- KEYS[1] members ZSET who takes part, to ms when last seen
-- ARGV[1] name string  who shows itself, or '' for nobody
-- ARGV[2] seen integer ms after which whoever did not is gone
-- ARGV[3] now  integer ms, or '' for the server's time
-- ARGV[4…] dead string name of one that was found dead; if it lives it shows itself again
-- Returns the name of each
-- Cost: O(log members) for each of the dead, and O(members)

local members = KEYS[1]
local refusal = wrong_type(members, 'zset')
if refusal then return refusal end
local now, seen = now_ms(ARGV[3]), tonumber(ARGV[2])
-- The harmless first write, too: lanes must be shared at maxmemory.
redis.call('ZREMRANGEBYSCORE', members, '-inf', int(now - seen))
for i = 4, #ARGV do redis.call('ZREM', members, ARGV[i]) end
if ARGV[1] ~= '' then redis.call('ZADD', members, int(now), ARGV[1]) end
redis.call('PEXPIRE', members, 2 * seen)
return redis.call('ZRANGE', members, 0, -1)
