-- The time: the server's own, in milliseconds. No client's clock is ever asked.

local function read_clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end
