-- Renew the leases of calls in flight. A lease that Redis lost with its memory is entered again: its call is in flight.
--
-- KEYS[1]   zset  <prefix>embedq:leases:<model>  holder → server time at which its lease lapses, milliseconds
--
-- ARGV[1]   life of a lease, milliseconds
-- ARGV[2…]  holders
--
-- Returns nothing.

local clock = redis.call('TIME')
local lapses = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[1])
for number = 2, #ARGV do
  redis.call('ZADD', KEYS[1], lapses, ARGV[number])
end
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[1]))
