-- Has a group done with messages that it has not read, and deletes those that the others are done with, too; never a
-- pending one. Keys that are parked for one go on.
--
-- KEYS[1] stream   STREAM ready and pending messages
-- KEYS[2] recent   ZSET   ids published lately
-- KEYS[3] schedule ZSET   scheduled messages by due ms
-- KEYS[4] bodies   HASH   their fields
-- KEYS[5] bell     STREAM rung at a new earliest due time
-- KEYS[6] parked   HASH   keys that wait, to the id of what they wait for
-- KEYS[7] waiting  ZSET   their messages, in order
-- ARGV[1] now   integer ms, or '' for the server's time
-- ARGV[2] group string
-- ARGV[3] stop  string  stream id of the last that may be deleted
-- ARGV[4] limit integer messages at most; fewer if they are large
-- Returns messages done with: 0, and there are no more
-- Cost: O(limit log n)

local stream, recent, schedule, bodies, bell = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local parked, waiting = KEYS[6], KEYS[7]
local group, stop, limit = ARGV[2], ARGV[3], tonumber(ARGV[4])
local parking = {parked = parked, waiting = waiting, schedule = schedule, bodies = bodies, bell = bell}
local refusal = wrong_type(stream, 'stream', recent, 'zset', schedule, 'zset', bodies, 'hash', bell, 'stream',
  parked, 'hash', waiting, 'zset')
if refusal then return refusal end

local others, own = groups_of(stream, group)
if #others > 0 and not own then return 0 end -- nothing is ready for who is not there
local now, start = now_ms(ARGV[1]), own and '(' .. own.read or '-'
local unread = read_entries(stream, start, stop, limit)
local ids, message_ids = {}, {}
for i, entry in ipairs(unread) do
  ids[i] = entry[1]
  message_ids[entry[1]] = 'i:' .. (field(entry[2], 'id') or entry[1])
  if not is_for_another(entry[2], group) then
    unpark(parking, field(entry[2], 'key'), place_of(entry[1], entry[2]), now)
  end
end
if #others > 0 and #ids > 0 then redis.call('XGROUP', 'SETID', stream, group, ids[#ids]) end
for _, id in ipairs(delete_done(stream, others, ids)) do redis.call('ZREM', recent, message_ids[id]) end
return #unread
