-- Has one of the consumers that compete look for dead ones, for all of them: whoever comes first when it is time.
--
-- KEYS[1] lease  HASH   the caller's lease
-- KEYS[2] survey STRING who looked last; fades when it is time to look again
-- ARGV[1] epoch    string  of the caller
-- ARGV[2] consumer string  the caller
-- ARGV[3] period   integer ms
-- Returns 0 if the caller is to look, as it is told again if it repeats this; else ms until somebody may
-- Cost: O(1)

local lease, survey = KEYS[1], KEYS[2]
local consumer, period = ARGV[2], tonumber(ARGV[3])
local refusal = fence(lease, ARGV[1])
if refusal then return refusal end

-- What foreign hands wrote does not fade in time, or is no string: it is written over.
local left = redis.call('PTTL', survey)
if left > 0 and left <= period and redis.pcall('GET', survey) ~= consumer then return left end
redis.call('SET', survey, consumer, 'PX', period)
return 0
