-- Has one of the consumers that compete look for dead ones, for all of them: whoever comes first when it is time.
--
-- KEYS[1] lease  HASH   the caller's lease
-- KEYS[2] survey STRING who looked last; fades when it is time to look again
-- KEYS[3] stream STREAM its group has the consumers
-- ARGV[1] epoch    string  of the caller
-- ARGV[2] consumer string  the caller
-- ARGV[3] period   integer ms
-- ARGV[4] group    string
-- Returns 0 if the caller is to look, as it is told again if it repeats this, and the other consumers; else ms until
--         somebody may
-- Cost: O(consumers)

local lease, survey, stream = KEYS[1], KEYS[2], KEYS[3]
local consumer, period = ARGV[2], tonumber(ARGV[3])
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end

-- What another program wrote does not fade in time, or is no string: it is written over.
local left = redis.call('PTTL', survey)
if left > 0 and left <= period and redis.pcall('GET', survey) ~= consumer then return {left} end
redis.call('SET', survey, consumer, 'PX', period)
local told = {0}
for _, about in ipairs(redis.pcall('XINFO', 'CONSUMERS', stream, ARGV[4])) do -- none, if the group is gone
  if about[2] ~= consumer then told[#told + 1] = about[2] end
end
return told
