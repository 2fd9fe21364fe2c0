-- Reads what is due and changes nothing, so that it can be corrected before it is promoted.
--
-- KEYS[1] schedule ZSET scheduled messages by due ms
-- KEYS[2] bodies   HASH their fields
-- ARGV[1] now   integer ms, or '' for the server's time
-- ARGV[2] limit integer messages to read at most; fewer are if they are large
-- Returns µs until the next after these is due (0: now; -1: none), then per message: member, score, packed fields
-- Cost: O(log n + limit)

local schedule, bodies = KEYS[1], KEYS[2]
local now, limit = now_ms(ARGV[1]), tonumber(ARGV[2])
local first = redis.call('ZRANGE', schedule, 0, limit, 'WITHSCORES')
local reply, bytes = {-1}, 0
for i = 1, #first, 2 do
  local due = tonumber(first[i + 1])
  if due > now or i > 2 * limit or bytes > ENOUGH_BYTES then
    reply[1] = wait_us(due, now, ARGV[1])
    break
  end
  local packed = redis.call('HGET', bodies, string.sub(first[i], 13))
  reply[#reply + 1] = first[i]
  reply[#reply + 1] = first[i + 1]
  reply[#reply + 1] = string.sub(packed or '', 13)
  bytes = bytes + #(packed or '')
end
return reply
