-- Deletes the keys of a lane that its queue goes on without, if nothing is in it for any group, and nobody holds it. Its
-- epochs stay.
--
-- KEYS[1…] every STREAM and of other types: first what holds messages, or is a lease; then what else the lane has
-- ARGV[1] holding integer keys that hold messages, or are a lease
-- Returns 1 if the lane is gone, 0 if it holds something, or is held
-- Cost: O(keys known to be published lately)

local holding = tonumber(ARGV[1])
for i = 1, holding do
  local key = KEYS[i]
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and not (found == 'stream' and redis.call('XLEN', key) == 0) then return 0 end
end
redis.call('DEL', unpack(KEYS, 1))
return 1
