-- The groups of a stream, and what is pending for them.

-- The group of a queue's own handler.
local DEFAULT_GROUP = 'delayq'

-- Tells of the groups of a stream: the others than `group`, and it, or nil. Without a stream there are none. Every
-- server tells name, consumers, pending and last-delivered-id first, and from 7.0 on entries-read and lag.
local function groups_of(stream, group)
  local others, own = {}, nil
  for _, about in ipairs(redis.pcall('XINFO', 'GROUPS', stream)) do
    local found = {name = about[2], pending = about[6], read = about[8], lag = about[12]}
    if found.name == group then own = found else others[#others + 1] = found end
  end
  return others, own
end

-- Tells whether a whole number is less than another; of any length, as text.
local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

-- Tells whether a stream id comes after another.
local function comes_after(id, other)
  local ms, number = string.match(id, '^(%d+)%-(%d+)$')
  local other_ms, other_number = string.match(other, '^(%d+)%-(%d+)$')
  if ms ~= other_ms then return less(other_ms, ms) end
  return less(other_number, number)
end

-- Deletes those entries that every one of these groups is done with: has read, and has not pending.
local function delete_done(stream, groups, ids)
  local done = ids
  if #groups > 0 then
    done = {}
    for _, id in ipairs(ids) do
      local wanted = false
      for _, group in ipairs(groups) do
        wanted = wanted or comes_after(id, group.read)
          or group.pending > 0 and #redis.call('XPENDING', stream, group.name, id, id, 1) > 0
      end
      if not wanted then done[#done + 1] = id end
    end
  end
  if #done > 0 then redis.call('XDEL', stream, unpack(done)) end
  return done
end

-- Tells for which group alone an entry is: a retry, or a dead letter sent again. Nil if it is for all. What comes from
-- no schedule may have a foreign field of that name.
local function addressee(fields)
  local last = #fields - 1
  if fields[last] ~= 'for' then return nil end
  for i = 1, last, 2 do
    if fields[i] == 'published' then return fields[last + 1] end
  end
end

local function is_for_another(fields, group)
  local found = addressee(fields)
  return found ~= nil and found ~= group
end

-- Acknowledges stream ids: they leave Redis, unless another group is not done with them. Returns how many were pending.
local function acknowledge(stream, group, ids, others)
  if #ids == 0 then return 0 end
  local acked = redis.call('XACK', stream, group, unpack(ids))
  delete_done(stream, others or groups_of(stream, group), ids)
  return acked
end

-- Acknowledges an entry that has these fields. What is for this group alone nobody else waits for: however often it comes
-- back, no more is kept for a group that is slow, or away.
local function acknowledge_one(stream, group, entry, fields, others)
  return acknowledge(stream, group, {entry}, addressee(fields) == group and {} or others)
end

-- Returns the fields of an entry that is pending for a group; nil if it is gone for it. That it stands in the stream says
-- nothing: a first try of the call may have settled it, and another group is not done with it.
local function pending_fields(stream, group, entry)
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  if not found then
    redis.call('XACK', stream, group, entry) -- deleted by another program, it would stay pending
    return nil
  end
  return redis.pcall('XPENDING', stream, group, entry, entry, 1)[1] and found[2] -- an error, too, has no [1]
end

-- Takes back deliveries of pending messages: they stay pending for `consumer`, delivered `deliveries` times.
local function uncount(stream, group, consumer, deliveries, ids)
  if #ids == 0 then return end
  local command = {'XCLAIM', stream, group, consumer, 0, unpack(ids)}
  for _, word in ipairs({'RETRYCOUNT', deliveries, 'JUSTID'}) do command[#command + 1] = word end
  redis.call(unpack(command))
end

-- How often a message was delivered before it came to the stream: its last field but for its place, and for whom it is.
local function earlier_deliveries(fields)
  local last = #fields - 1
  if fields[last] == 'for' then last = last - 2 end
  for i = last, last - 2, -2 do
    if fields[i] == 'deliveries' then return tonumber(fields[i + 1]) or 0 end
  end
  return 0
end

-- Has fields say for which group they are, where there are others.
local function address(fields, group, others)
  if group == DEFAULT_GROUP and #others == 0 then return end
  fields[#fields + 1] = 'for'
  fields[#fields + 1] = group
end

-- Makes pending messages `consumer`'s own, without counting a delivery.
local function claim(stream, group, consumer, ids)
  if #ids == 0 then return end
  local command = {'XCLAIM', stream, group, consumer, 0, unpack(ids)}
  command[#command + 1] = 'JUSTID'
  redis.call(unpack(command))
end
