-- Stands around every script of a process that keeps an audit. The last of KEYS is the audit stream; the lines before
-- this one name the script, and the arguments that its header calls so. The script's own text stands where it says BODY.

local audit = table.remove(KEYS)
local server = redis
local MAX_CHARS = 512

-- What is none of these is recorded: so no new command escapes.
local reads = {}
for name in string.gmatch('TIME TYPE EXISTS GET MGET STRLEN PTTL TTL HGET HMGET HGETALL HEXISTS HLEN HKEYS HSCAN ZSCORE ' ..
  'ZRANGE ZRANGEBYSCORE ZRANGEBYLEX ZCARD ZCOUNT ZRANK XLEN XRANGE XREVRANGE XREAD XPENDING XINFO', '%u+') do
  reads[name] = true
end

local function whole(number)
  return string.format(number % 1 == 0 and '%.0f' or '%.17g', number)
end

local function microseconds(time)
  return string.format('%s%06d', time[1], time[2])
end

local began = server.call('TIME')
local time = began
local writes = {}

-- Values that are long are recorded by a digest, so that the audit stays small; those packed, each.
local function short(value)
  if #value <= MAX_CHARS then return value end
  local before, body = string.match(value, '^(' .. string.rep('%x', 12) .. '%w+ )(.*)$')
  if body then return #body <= MAX_CHARS and value or before .. 'sha1:' .. server.sha1hex(body) end
  local readable, packed = pcall(cjson.decode, string.sub(value, 13))
  if not readable or type(packed) ~= 'table' then return 'sha1:' .. server.sha1hex(value) end
  for i, part in ipairs(packed) do
    if type(part) == 'string' and #part > MAX_CHARS then packed[i] = 'sha1:' .. server.sha1hex(part) end
  end
  return string.sub(value, 1, 12) .. cjson.encode(packed)
end

local function ids_of(entries)
  local ids = {}
  for _, entry in ipairs(entries) do
    if entry then ids[#ids + 1] = type(entry) == 'table' and entry[1] or entry end
  end
  return ids
end

-- What is kept of a reply; nil if it says that nothing changed.
local function kept(name, reply)
  if name == 'XREADGROUP' then return reply and ids_of(reply[1][2]) or nil end
  if name == 'XCLAIM' then return ids_of(reply) end
  if type(reply) == 'table' then return reply.ok or ids_of(reply) end
  if reply == 0 and name ~= 'HSET' and name ~= 'ZADD' and name ~= 'XGROUP' then return nil end
  if type(reply) == 'number' then return whole(reply) end
  return reply or nil
end

local function note(words, reply)
  local name = string.upper(words[1])
  if name == 'TIME' then time = reply end
  if reads[name] or type(reply) == 'table' and reply.err then return end
  local told = kept(name, reply)
  if told == nil then return end
  for i, word in ipairs(words) do
    words[i] = type(word) == 'number' and whole(word) or short(word)
  end
  writes[#writes + 1] = {words, told}
end

local redis = {error_reply = server.error_reply, status_reply = server.status_reply, sha1hex = server.sha1hex}

function redis.call(...)
  local reply = server.call(...)
  note({...}, reply)
  return reply
end

function redis.pcall(...)
  local reply = server.pcall(...)
  note({...}, reply)
  return reply
end

local function body()
-- BODY
end

-- At maxmemory, what may use memory is refused if it is the first write: PERSIST is a harmless one.
local function append(refusal)
  if #writes == 0 and not refusal then return end
  local from, now, till = microseconds(began), microseconds(time), microseconds(server.call('TIME'))
  if named.now and named.now ~= '' then
    now = named.now .. '000'
    from, till = now, now
  end
  server.pcall('PERSIST', audit)
  local told = {script = script, began_us = from, now_us = now, ended_us = till, epoch = named.epoch, consumer = named.consumer, lease = named.lease,
    refusal = refusal, writes = writes}
  return server.pcall('XADD', audit, '*', 'call', cjson.encode(told)).err
end

local ran, answer = pcall(body)
local refusal
if not ran then
  refusal = type(answer) == 'table' and answer.err or tostring(answer)
elseif type(answer) == 'table' then
  refusal = answer.err
end
local failed = append(refusal)
if not ran then error(answer, 0) end
if failed and #writes > 0 then return server.error_reply('NOAUDIT ' .. failed) end
return answer
