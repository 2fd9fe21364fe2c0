-- Keys that wait for a message that failed.

-- A message that waits for another one of its key is held: it is not due before that one is settled, which makes it due
-- (`let_go`). Its score is half a ms more than a whole number, by which it is known, and so late that it is reached only
-- if nobody let it go, as where another program took away what it waited for: to look at all that wait is then no more
-- than 100 calls a second.
local HELD_MS, HELD_EACH_MS = 10000, 10

local function held_until(since, waiting)
  return int(since + HELD_MS + HELD_EACH_MS * redis.call('ZCARD', waiting)) .. '.5'
end

local function is_held(score)
  return score and tonumber(score) % 1 ~= 0
end

-- How the rows of a key begin in `waiting`, and that of one place in its order: no beginning is that of another. A row
-- is a message of a parked key that is not settled, wherever it is; the first of a key is whom the others wait for.
local function row_of(key, place)
  local begins = string.format('%08x', #key) .. key
  if not place then return begins end
  local ms, number = string.match(place, '^(%d+)%-(%d+)$')
  return begins .. string.format('%016x%016x', ms, number)
end

local function rows_from(waiting, begins, at, count)
  return redis.call('ZRANGE', waiting, '[' .. begins, '(' .. begins .. 'g', 'BYLEX', 'LIMIT', at, count)
end

local function first_row(waiting, begins)
  return rows_from(waiting, begins, 0, 1)[1]
end

local function id_in(row, key)
  return string.sub(row, #key + 42) -- behind 8 digits, the key, 32 digits, and a space
end

-- Returns the id of the message that a key waits for, and its row; nothing if the key is free. `parked` is told.
local function blocker_of(parked, waiting, key)
  local row = first_row(waiting, row_of(key))
  if not row then
    redis.call('HDEL', parked, key)
    return
  end
  local id = id_in(row, key)
  redis.call('HSET', parked, key, id)
  return id, row
end

-- Has a message wait in its place, under its id of now. Returns its row.
local function wait_in_place(waiting, key, place, id)
  local begins = row_of(key, place)
  local before, row = first_row(waiting, begins), begins .. ' ' .. id
  redis.call('ZADD', waiting, 0, row)
  if before and before ~= row then redis.call('ZREM', waiting, before) end
  return row
end

-- Has the first few messages of a key that are held be due now, if half as many are not under way: so one that fails
-- sends no more than these round. Each is due a ms after the one before it, since they come in the order of their
-- arrival else, in which they went back. `parking` names the keys that this takes: parked, waiting, schedule, bodies, bell.
local LET_GO = 32

local function let_go(parking, key, now)
  local begins = row_of(key)
  local function held(row)
    local id = row and id_in(row, key)
    local packed = id and redis.call('HGET', parking.bodies, id)
    local member = packed and string.sub(packed, 1, 12) .. id
    return member and is_held(redis.call('ZSCORE', parking.schedule, member)) and member
  end
  local function held_at(at) return held(rows_from(parking.waiting, begins, at, 1)[1]) end
  if not (held_at(0) or held_at(LET_GO / 2)) then return end
  local due = {}
  for i, row in ipairs(rows_from(parking.waiting, begins, 0, LET_GO)) do
    local member = held(row)
    if member then
      due[#due + 1] = int(now - LET_GO + i)
      due[#due + 1] = member
    end
  end
  local first = earliest_due(parking.schedule)
  redis.call('ZADD', parking.schedule, unpack(due))
  if tonumber(due[1]) < first then ring(parking.bell) end
end

-- Has the messages of a key wait no more for the one that had this place, if it is parked, and the next ones come.
-- The last row may be the last of all: `waiting` is not asked for after that (see `unschedule`).
local function unpark(parking, key, place, now)
  local row = key and place and first_row(parking.waiting, row_of(key, place))
  if not row then return end
  local is_last = #rows_from(parking.waiting, row_of(key), 0, 2) == 1
  if is_last then redis.call('HDEL', parking.parked, key) end
  redis.call('ZREM', parking.waiting, row)
  if not is_last and blocker_of(parking.parked, parking.waiting, key) then let_go(parking, key, now) end
end
