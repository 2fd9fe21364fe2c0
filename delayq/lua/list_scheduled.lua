-- Reads a page of what is scheduled, in order of (due, arrival), after a place that need not be there any more.
--
-- KEYS[1] schedule ZSET scheduled messages by due ms
-- KEYS[2] bodies   HASH their fields
-- ARGV[1] limit  integer messages at most
-- ARGV[2] score  string  due ms of the place, as Redis wrote it; '' for the beginning
-- ARGV[3] member string  its member
-- Returns per message: member, score, packed fields
-- Cost: O(log² n + limit)

local schedule, bodies = KEYS[1], KEYS[2]
local limit, score, member = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local refusal = wrong_type(schedule, 'zset', bodies, 'hash')
if refusal then return refusal end

-- Byte by byte, as Redis sorts: the `<` of Lua would follow the server's locale.
local function after(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

-- The first rank after the place: among equal scores by binary search.
local low = 0
if score ~= '' then
  low = redis.call('ZCOUNT', schedule, '-inf', '(' .. score)
  local high = redis.call('ZCOUNT', schedule, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if after(redis.call('ZRANGE', schedule, middle, middle)[1], member) then high = middle else low = middle + 1 end
  end
end

local page, reply = redis.call('ZRANGE', schedule, low, low + limit - 1, 'WITHSCORES'), {}
for i = 1, #page, 2 do
  reply[#reply + 1] = page[i]
  reply[#reply + 1] = page[i + 1]
  reply[#reply + 1] = string.sub(redis.call('HGET', bodies, string.sub(page[i], 13)) or '', 13)
end
return reply
