-- What a call begins with: time, numbers, the fence; and the bell.

-- The server's time in ms, or the time given (tests own it).
local function now_ms(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The time from now until `due` ms, in µs: as a wait it must be no longer than it is. -1 if there is no `due`.
local function wait_us(due, now, given)
  if not due then return -1 end
  local past = 0
  if given == '' then past = redis.call('TIME')[2] % 1000 end
  return math.max(0, (due - now) * 1000 - past)
end

-- Redis writes large numbers as 1e+12 unless told otherwise. A part of a ms is the next whole one.
local function int(number)
  return string.format('%.0f', math.ceil(number))
end

-- A whole number as we write it; nil for anything else, and for what is too large to be counted on from.
local function whole(text)
  return text and #text <= 15 and string.match(text, '^%d+$') and tonumber(text) or nil
end

-- A script that fails half-way is not rolled back: so look at every key before the first write.
-- Takes key, type, key, type …; returns a refusal, or nil.
local function wrong_type(...)
  local pairs_ = {...}
  for i = 1, #pairs_, 2 do
    local found = redis.call('TYPE', pairs_[i]).ok
    if found ~= 'none' and found ~= pairs_[i + 1] then
      return redis.error_reply('WRONGKEY ' .. pairs_[i] .. ' is a ' .. found .. ', not a ' .. pairs_[i + 1])
    end
  end
end

-- The fence: only the holder of `lease` under `epoch` may go on. At maxmemory only the first write of a script
-- is refused, if it may use memory: so the first one is an HDEL of nothing. Returns a refusal, or nil.
local function fence(lease, epoch)
  if redis.call('HGET', lease, 'epoch') ~= epoch then
    return redis.error_reply('LEASELOST epoch ' .. epoch .. ' is not the one that holds ' .. lease)
  end
  redis.call('HDEL', lease, '')
end

-- Tells whether a call is made again after a lost reply: then its deliveries were counted already.
local function repeated(lease, call)
  if redis.call('HGET', lease, 'call') == call then return true end
  redis.call('HSET', lease, 'call', call, 'delivered', 0)
  return false
end

-- Rings a bell: whoever waits on it looks again. It fades after a minute, so that no key is left behind.
local function ring(bell)
  redis.call('XADD', bell, 'MAXLEN', 1, '*', 'rung', '1')
  redis.call('PEXPIRE', bell, 60000)
end
