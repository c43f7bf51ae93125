#!lua flags=allow-oom
-- What a process says of itself, for `embedq status` and the metrics, and what the fleet has done in this minute. It may run when
-- the server is out of memory: then people look, and it is a few hundred bytes.
--
-- KEYS[1]  hash  <prefix>embedq:worker:<process>  the report: store/fleet/reports.py has its fields
--
-- ARGV[1]  seconds that the report lives
-- ARGV[2]  stem of the keys <prefix>embedq:pace:<minute>: hash of "<collection> items" and "<collection> messages" done
-- ARGV[3]  seconds that a minute is kept
-- ARGV[4]  n, the number of the report's fields and values, then these
-- ARGV[5+n…] collection, messages and items that were done since the last report, for each collection
--
-- The minute is the server's, so that the clocks of the workers' hosts do not matter.

local fields = tonumber(ARGV[4])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 5, 4 + fields))
redis.call('EXPIRE', KEYS[1], ARGV[1])

if #ARGV > 4 + fields then
  local pace = ARGV[2] .. math.floor(redis.call('TIME')[1] / 60)
  for at = 5 + fields, #ARGV, 3 do
    redis.call('HINCRBY', pace, ARGV[at] .. ' messages', ARGV[at + 1])
    redis.call('HINCRBY', pace, ARGV[at] .. ' items', ARGV[at + 2])
  end
  redis.call('EXPIRE', pace, ARGV[3])
end
return 1
