-- Moves dead letters to the schedule, due now, under their ids, to be delivered anew. Letters without a body stay.
--
-- KEYS[1] dead     STREAM dead letters
-- KEYS[2] schedule ZSET   scheduled messages by due ms
-- KEYS[3] bodies   HASH   their fields
-- KEYS[4] arrival  STRING last arrival number
-- KEYS[5] bell     STREAM rung at a new earliest due time
-- KEYS[6] stream   STREAM ready and pending messages
-- ARGV[1] now    integer ms, or '' for the server's time
-- ARGV[2] start  string  id in the dead stream, '(' before it to exclude it
-- ARGV[3] stop   string  id of the last that may be moved
-- ARGV[4] limit  integer letters to look at most; fewer are if they are large
-- ARGV[5] group  string  that they come back to
-- ARGV[6] reason string  of those to move, '' for any
-- ARGV[7…] ids of those to move, 1000 at most; none for all
-- Returns start of the next call or '', letters moved, letters met that have no body
-- Cost: O(limit log n)

local dead, schedule, bodies, arrival, bell, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local refusal = wrong_type(dead, 'stream', schedule, 'zset', bodies, 'hash', arrival, 'string', bell, 'stream',
  stream, 'stream')
if refusal then return refusal end

local now, first = now_ms(ARGV[1]), earliest_due(schedule)
local ours = {entry = true, deliveries = true, reason = true, error = true, due = true, id = true, published = true,
  ['for'] = true}
local group, moved, skipped = ARGV[5], 0, 0
local others, own = groups_of(stream, group)
if #others > 0 and not own then return redis.error_reply('NOGROUP ' .. stream .. ' ' .. group) end

local function move(entry, fields, id)
  local packed, due = {}, field(fields, 'due') or string.match(field(fields, 'entry') or entry, '^%d+')
  for i = 1, #fields, 2 do
    if not ours[fields[i]] then
      packed[#packed + 1] = fields[i]
      packed[#packed + 1] = fields[i + 1]
    end
  end
  packed[#packed + 1] = 'published'
  packed[#packed + 1] = field(fields, 'published') or due or int(now)
  address(packed, group, others)
  if redis.call('HEXISTS', bodies, id) == 1 then id = id .. '~' .. entry end
  schedule_messages(schedule, bodies, arrival, {id, int(now), cjson.encode(packed)})
  redis.call('XDEL', dead, entry)
  moved = moved + 1
end

redis.call('PERSIST', schedule) -- the harmless first write: goes on at maxmemory
local wanted = wanted_letters(ARGV[6], {unpack(ARGV, 7)})
local letters, more = read_entries(dead, ARGV[2], ARGV[3], tonumber(ARGV[4]))
for _, letter in ipairs(letters) do
  local entry, fields = letter[1], letter[2]
  local id = wanted(entry, fields)
  if id and field(fields, 'body') and #fields <= MAX_VALUES then
    move(entry, fields, id)
  elseif id then
    skipped = skipped + 1
  end
end
if moved > 0 and (not first or now < first) then ring(bell) end
return {more and '(' .. letters[#letters][1] or '', moved, skipped}
