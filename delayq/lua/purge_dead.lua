-- Deletes dead letters. Repeated, it changes nothing.
--
-- KEYS[1] dead STREAM dead letters
-- ARGV[1] now    integer ms, or '' for the server's time
-- ARGV[2] start  string  id in the dead stream, '(' before it to exclude it
-- ARGV[3] stop   string  id of the last that may be deleted
-- ARGV[4] limit  integer letters to look at most; fewer are if they are large
-- ARGV[5] age    integer ms that they have been dead for at least
-- ARGV[6] reason string  of those to delete, '' for any
-- ARGV[7…] ids of those to delete, 1000 at most; none for all
-- Returns start of the next call or '', letters deleted, 0
-- Cost: O(limit)

local dead = KEYS[1]
local refusal = wrong_type(dead, 'stream')
if refusal then return refusal end

local newest = now_ms(ARGV[1]) - tonumber(ARGV[5])
local wanted = wanted_letters(ARGV[6], {unpack(ARGV, 7)})
local letters, more = read_entries(dead, ARGV[2], ARGV[3], tonumber(ARGV[4]))
local deleted = 0
for _, letter in ipairs(letters) do
  if tonumber(ARGV[5]) > 0 and tonumber(string.match(letter[1], '^%d+')) > newest then return {'', deleted, 0} end
  if wanted(letter[1], letter[2]) then deleted = deleted + redis.call('XDEL', dead, letter[1]) end
end
return {more and '(' .. letters[#letters][1] or '', deleted, 0}
