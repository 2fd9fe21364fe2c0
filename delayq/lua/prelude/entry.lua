-- The fields of a message, as an entry of the stream has them.

-- Names and values of a message together; Lua cannot hand on some thousands at once.
local MAX_VALUES = 256

-- Bytes of messages after which a script takes no more: 1 MB of them takes 2 to 4 ms.
local ENOUGH_BYTES = 500000

local function bytes_of(fields)
  local bytes = 0
  for i = 2, #fields, 2 do bytes = bytes + #fields[i] end
  return bytes
end

-- Reads entries of a stream, `limit` at most, in parts that grow, so that large ones are noticed before there are many.
-- Returns them, and whether there may be more.
local function read_entries(stream, from, to, limit)
  local found, bytes, part, page = {}, 0, 1, nil
  repeat
    part = math.min(2 * part, limit - #found)
    page = redis.call('XRANGE', stream, from, to, 'COUNT', part)
    for _, entry in ipairs(page) do
      found[#found + 1] = entry
      bytes = bytes + bytes_of(entry[2])
    end
    if #page > 0 then from = '(' .. page[#page][1] end
  until #page < part or #found >= limit or bytes > ENOUGH_BYTES
  return found, #page == part
end

-- The value of a field; of equal names the last one's, as for a handler.
local function field(fields, name)
  for i = #fields - 1, 1, -2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

-- The place of a message in the order of its key: the id of the entry by which it first came to the stream.
local function place_of(entry, fields)
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'place' and type(value) == 'string' and string.match(value, '^%d+%-%d+$') then return value end
  end
  return entry
end
