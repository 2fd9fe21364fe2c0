-- Shows that a consumer takes part in sharing the lanes of its queue, and tells who else does.
--
-- KEYS[1] members ZSET who takes part, to ms when last seen
-- ARGV[1] name string  who shows itself
-- ARGV[2] seen integer ms after which whoever did not is gone
-- ARGV[3] now  integer ms, or '' for the server's time
-- Returns name, ms when last seen, of each
-- Cost: O(members)

local members = KEYS[1]
local refusal = wrong_type(members, 'zset')
if refusal then return refusal end
local now, seen = now_ms(ARGV[3]), tonumber(ARGV[2])
-- The harmless first write, too: lanes must be shared at maxmemory.
redis.call('ZREMRANGEBYSCORE', members, '-inf', int(now - seen))
redis.call('ZADD', members, int(now), ARGV[1])
redis.call('PEXPIRE', members, 2 * seen)
return redis.call('ZRANGE', members, 0, -1, 'WITHSCORES')
