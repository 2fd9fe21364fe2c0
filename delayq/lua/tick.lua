-- Puts ticks of a recurring queue on the schedule, each if it is later than the last one accepted: so each is accepted
-- once, by whomever and however often it is offered. Without ticks it tells where things are.
--
-- KEYS[1] schedule ZSET   scheduled messages by due ms
-- KEYS[2] bodies   HASH   their fields
-- KEYS[3] arrival  STRING last arrival number
-- KEYS[4] bell     STREAM rung at a new earliest due time
-- KEYS[5] ticked   STRING the last tick accepted, ms
-- ARGV[1] now  integer ms, or '' for the server's time
-- ARGV[2] name string  of the queue: a tick's id is name@ms
-- ARGV[3…] per tick, in their order: ms, body
-- Returns ticks accepted, the last tick accepted or '', now
-- Cost: O(log n) a tick

local schedule, bodies, arrival, bell, ticked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local refusal = wrong_type(schedule, 'zset', bodies, 'hash', arrival, 'string', bell, 'stream', ticked, 'string')
if refusal then return refusal end

local now, name = now_ms(ARGV[1]), ARGV[2]
local last, accepted, first = tonumber(redis.call('GET', ticked) or ''), 0, earliest_due(schedule)
local at = 3
while ARGV[at] do
  local tick, body = tonumber(ARGV[at]), ARGV[at + 1]
  if not last or tick > last then
    schedule_messages(schedule, bodies, arrival, {name .. '@' .. int(tick), int(tick), stamp(now) .. body})
    last = tick
    accepted = accepted + 1
  end
  at = at + 2
end
if accepted > 0 then
  redis.call('SET', ticked, int(last))
  local earliest = earliest_due(schedule)
  if not first or earliest < first then ring(bell) end
end
return {accepted, last and int(last) or '', now}
