-- What becomes of a message that was not handled: back on the schedule, dead, or forgotten.

-- Returns what tells for a dead letter the id of its message, if it is one of `ids`, or they are none, and died
-- for `reason`, or that is ''.
local function wanted_letters(reason, ids)
  local listed = {}
  for _, id in ipairs(ids) do listed[id] = true end
  return function(entry, fields)
    local id = field(fields, 'id') or field(fields, 'entry') or entry
    if #ids > 0 and not listed[id] then return nil end
    if reason ~= '' and field(fields, 'reason') ~= reason then return nil end
    return id
  end
end

-- What a stream entry is in the schedule: its id, its key, and its fields packed, with the deliveries up to now;
-- with '' for these, those it had before. If its key is or will be parked, it keeps its place in the key's order.
-- If there are others than its group, it comes back for that one alone, which the last field says.
-- An id that is scheduled already, as of one that was published again long after the first, is told apart: neither
-- replaces the other.
local function as_scheduled(bodies, entry, fields, deliveries, parking, group, others)
  local id, key, due, published, packed = entry, nil, string.match(entry, '^%d+'), nil, {}
  local place = place_of(entry, fields)
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'id' then id = value
    elseif name == 'due' then due = value
    elseif name == 'published' then published = value
    elseif name == 'deliveries' then
      if deliveries == '' then deliveries = value end
    elseif name ~= 'place' and name ~= 'for' then
      if name == 'key' then key = value end
      packed[#packed + 1] = name
      packed[#packed + 1] = value
    end
  end
  if deliveries == '' then deliveries = '0' end
  for _, value in ipairs({'published', published or due, 'deliveries', deliveries}) do packed[#packed + 1] = value end
  if parking then
    packed[#packed + 1] = 'place'
    packed[#packed + 1] = place
  end
  address(packed, group, others)
  if redis.call('HEXISTS', bodies, id) == 1 then id = id .. '~' .. entry end
  return id, key, cjson.encode(packed), place
end

-- Forgets the id of a message that is cancelled: it may be published anew. Nobody waits for it any more.
local function forget(recent, parking, id, packed, now)
  redis.call('ZREM', recent, 'i:' .. id)
  if not packed or redis.call('EXISTS', parking.waiting) == 0 then return end
  local fields = unpacked(packed)
  local key = fields and field(fields, 'key')
  if type(key) == 'string' then unpark(parking, key, place_of(nil, fields), now) end
end

-- Moves a pending message to the dead stream, with its fields, of which a bounded number is kept.
-- Returns 1, or 0 if the message is gone.
local function bury(stream, group, dead, parking, now, entry, deliveries, reason, error)
  local found = pending_fields(stream, group, entry)
  if not found then return 0 end
  local ours = {entry = true, deliveries = true, reason = true, error = true, place = true, ['for'] = true}
  local fields, key = {}, nil
  for i = 1, math.min(#found, MAX_VALUES), 2 do
    local name, value = found[i], found[i + 1]
    if name == 'key' then key = value end
    if not ours[name] then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  redis.call('XADD', dead, '*', 'entry', entry, 'deliveries', deliveries, 'reason', reason, 'error', error,
    unpack(fields))
  unpark(parking, key, place_of(entry, found), now)
  acknowledge_one(stream, group, entry, found)
  return 1
end
