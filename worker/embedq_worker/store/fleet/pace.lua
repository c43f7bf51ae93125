-- What the fleet has done in the last minutes.
--
-- ARGV[1]  stem of the keys <prefix>embedq:pace:<minute>: hash of "<collection> items" and "<collection> messages" (report.lua)
-- ARGV[2]  minutes
--
-- Returns the seconds that this minute, by the server's clock, has lasted; then for each minute, this one first, its fields and
-- values in turn.

local time = redis.call('TIME')
local minute = math.floor(time[1] / 60)
local reply = {tostring(time[1] - 60 * minute + time[2] / 1000000)}
for ago = 0, ARGV[2] - 1 do
  reply[ago + 2] = redis.call('HGETALL', ARGV[1] .. minute - ago)
end
return reply
