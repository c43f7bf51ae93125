#!lua flags=allow-oom
-- Take a lease to one concurrent call of a model, if the fleet holds fewer than the limit.
--
-- KEYS[1]  zset  <prefix>embedq:leases:<model>  holder → server time at which its lease lapses, milliseconds;
--                the key lapses with its last lease
--
-- ARGV[1]  limit   concurrent calls of the fleet
-- ARGV[2]  holder  unique for this call
-- ARGV[3]  life of the lease, milliseconds
--
-- Runs in a full Redis too: a lease is a few bytes, and without one nothing drains the queues.
-- Asking again with the same holder, as after a lost answer, is granted again.
-- Returns 0 when granted, else the milliseconds until the first lease lapses by itself.

local leases, limit, holder, life = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
if redis.call('ZSCORE', leases, holder) or redis.call('ZCARD', leases) < limit then
  redis.call('ZADD', leases, now + life, holder)
  local last = redis.call('ZRANGE', leases, -1, -1, 'WITHSCORES')  -- others' lives may be longer
  redis.call('PEXPIREAT', leases, tonumber(last[2]))
  return 0
end
local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
return math.max(1, first[2] - now)
