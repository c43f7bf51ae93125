-- In front of the limiter's script, in place of its clock.lua: virtual time, and what real time would spoil.
--
-- ARGV[2]  the virtual time, milliseconds
--
-- Lives of keys are made a thousand times longer, as they run on real time. What goes to a mailbox goes to one list
-- instead, as "time process entry", so that the simulation sees at once to whom something was handed over.

local server = redis
local HANDED = 'simulation:handed'

local redis = {
  call = function(command, key, ...)
    if command == 'PEXPIRE' then
      return server.call(command, key, ... * 1000)
    end
    if command == 'RPUSH' and string.sub(key, 1, #KEYS[2]) == KEYS[2] then
      return server.call(command, HANDED, ARGV[2] .. ' ' .. string.sub(key, #KEYS[2] + 1) .. ' ' .. ...)
    end
    return server.call(command, key, ...)
  end,
}

local function read_clock()
  return tonumber(ARGV[2])
end
