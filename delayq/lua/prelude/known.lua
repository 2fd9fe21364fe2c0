-- What is known of who publishes, and of ids and dedup ids that are told.

-- The number of a caller's last call, the ms when it was made, and its first message's id; nothing if it is not known.
local function last_call(dedup, caller)
  local told = redis.pcall('HGET', dedup, caller)
  local last, at, id = string.match(type(told) == 'string' and told or '', '^(%d+) (%d+) (.+)$')
  return tonumber(last), tonumber(at), id
end

local function remember_call(dedup, caller, number, now, id)
  redis.call('HSET', dedup, caller, int(number) .. ' ' .. int(now) .. ' ' .. id)
end

-- A caller is remembered once in each stretch of `window` ms in which it calls, for two of them.
local function same_stretch(at, now, window)
  return math.floor(at / window) == math.floor(now / window)
end

-- Forgets callers, ids and dedup ids that are not to be known any more, up to `limit` of them. Where that is twice what
-- came in, or more, they do not pile up, and no call is long.
local function forget_old(recent, dedup, now, limit)
  local old = redis.call('ZRANGEBYSCORE', recent, '-inf', now, 'LIMIT', 0, limit)
  if #old == 0 then return end
  redis.call('ZREM', recent, unpack(old))
  redis.call('HDEL', dedup, unpack(old))
end

-- Has a key outlive by `ms` at least what was written to it now.
local function keep(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, 2 * ms) end
end
