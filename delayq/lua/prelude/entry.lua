-- The fields of a message, as an entry of the stream has them.

-- Names and values of a message together; Lua cannot hand on some thousands at once.
local MAX_VALUES = 256

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
