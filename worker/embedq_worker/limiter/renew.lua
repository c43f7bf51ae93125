#!lua flags=allow-oom
-- Renew the leases of calls in flight. A lease that Redis lost with its memory is entered again: its call is in flight.
--
-- KEYS[1]   zset  <prefix>embedq:leases:<model>  holder → server time at which its lease lapses, milliseconds
--
-- ARGV[1]   life of a lease, milliseconds
-- ARGV[2…]  holders
--
-- Runs in a full Redis too: a call whose lease lapsed would be one call too many.
-- Returns nothing.

local clock = redis.call('TIME')
local lapses = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[1])
for number = 2, #ARGV do
  redis.call('ZADD', KEYS[1], lapses, ARGV[number])
end
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')  -- others' lives may be longer
redis.call('PEXPIREAT', KEYS[1], tonumber(last[2]))
