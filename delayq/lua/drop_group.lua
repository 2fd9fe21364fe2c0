-- Takes a group away in parts: has it done with what is pending for it, then with what it has not read; and deletes what
-- the others are done with, too. Where it is the only group, the messages stay. To be called until it answers 0.
--
-- KEYS[1] stream STREAM ready and pending messages
-- ARGV[1] group string
-- ARGV[2] limit integer messages at most
-- Returns 1 if it is to be called again, 0 if the group is not there any more
-- Cost: O(limit log n)

local stream, group, limit = KEYS[1], ARGV[1], tonumber(ARGV[2])
local refusal = wrong_type(stream, 'stream')
if refusal then return refusal end

local others, own = groups_of(stream, group)
if not own then return 0 end
if #others > 0 then
  local ids = {}
  for i, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', limit)) do ids[i] = entry[1] end
  acknowledge(stream, group, ids, others)
  if #ids == limit then return 1 end
  ids = {}
  local unread, more = read_entries(stream, '(' .. own.read, '+', limit)
  for i, entry in ipairs(unread) do ids[i] = entry[1] end
  if #ids > 0 then
    redis.call('XGROUP', 'SETID', stream, group, ids[#ids])
    delete_done(stream, others, ids)
  end
  if more then return 1 end
end
redis.call('XGROUP', 'DESTROY', stream, group)
return 0
