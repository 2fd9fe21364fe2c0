-- Takes a lease that is free, or one that still names the epoch and the connection given as dead; or only looks.
-- Repeated by the same incarnation it answers the same.
--
-- KEYS[1] lease HASH   the lease: holder, epoch, nonce, connection, since
-- KEYS[2] epoch STRING the last epoch given out
-- KEYS[3] standby ZSET who stands by, to ms when last seen
-- ARGV[1] name       string  who wants it; the epoch is added: name@epoch
-- ARGV[2] nonce      string  this incarnation of the name
-- ARGV[3] connection string  by which is known that it died; '0' for unknown
-- ARGV[4] ttl        integer ms
-- ARGV[5] dead_epoch string  epoch to take over, or '' for none
-- ARGV[6] dead_connection string its connection, seen to be gone
-- ARGV[7] take       integer 1; 0 to look only
-- ARGV[8] now        integer ms, or '' for the server's time
-- Returns 1, epoch where taken; 0 where it could be, and was only looked at; else 0, holder, epoch, connection, ms
--   until it ends
-- Cost: O(1)

local lease, last, standby = KEYS[1], KEYS[2], KEYS[3]
local name, nonce, connection, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local dead_epoch, dead_connection = ARGV[5], ARGV[6]
local refusal = wrong_type(lease, 'hash', last, 'string', standby, 'zset')
if refusal then return refusal end

local now = now_ms(ARGV[8])
local held = redis.call('HMGET', lease, 'holder', 'epoch', 'nonce', 'connection')
if whole(held[2]) then -- else another program made it: it is nobody's
  if held[3] == nonce then
    redis.call('PEXPIRE', lease, ttl)
    redis.call('HSET', lease, 'connection', connection)
    return {1, held[2]}
  end
  if held[2] ~= dead_epoch or held[4] ~= dead_connection then
    redis.pcall('ZADD', standby, int(now), name) -- only a hint for those who look: may fail at maxmemory
    redis.call('PEXPIRE', standby, 60000)
    return {0, held[1] or '', held[2], held[4] or '0', redis.call('PTTL', lease)}
  end
end

if ARGV[7] == '0' then return {0} end

-- The harmless first write: a takeover must go on at maxmemory.
redis.call('DEL', lease)
-- Grows even past a failover of the server that lost the last one.
local epoch = int(math.max((whole(redis.call('GET', last)) or 0) + 1, now))
redis.call('SET', last, epoch)
redis.call('HSET', lease, 'holder', name .. '@' .. epoch, 'epoch', epoch, 'nonce', nonce, 'connection', connection,
  'since', int(now))
redis.call('ZREM', standby, name)
redis.call('PEXPIRE', lease, ttl)
return {1, epoch}
