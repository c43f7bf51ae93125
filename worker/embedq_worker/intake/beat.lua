#!lua flags=allow-oom
-- Renew the lease of a process, and with it the leases of all messages in its hands.
--
-- KEYS[1]  zset    <prefix>embedq:workers        process → server time in seconds at which its lease lapses
-- KEYS[2]  zset    <prefix>embedq:dead           processes whose messages are being taken over
-- KEYS[3]  string  <prefix>embedq:taken_over:<process>   set when this process was taken over
-- KEYS[4]  string  <prefix>embedq:last_beat      server time of the last beat of any process
-- KEYS[5]  string  <prefix>embedq:amnesty        server time before which nobody is taken over
--
-- ARGV[1]  this process
-- ARGV[2]  life of a lease, seconds
-- ARGV[3]  seconds without a beat of anybody that mean that the server was away: those who live could not renew, and need a
--          lease's time to do so; so they do when its clock was set back, or a new master's is slow
--
-- Returns 'renewed'; 'taken over', for one whose messages were taken away from it while it was silent; or 'being taken over', for
-- one of whose messages some are still to be taken: it has no lease until that is done. Then whether anybody's messages are
-- to be taken over now.

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local life = tonumber(ARGV[2])

local last = tonumber(redis.call('GET', KEYS[4]))
local is_back = last and last - now > life
if not last or is_back or now - last > tonumber(ARGV[3]) then
  redis.call('SET', KEYS[5], string.format('%.6f', now + life))
end
if is_back then  -- the leases of the dead would live on until then
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now + life, '+inf')) do
    redis.call('ZADD', KEYS[1], now + life, other)
  end
end
redis.call('SET', KEYS[4], string.format('%.6f', now))

if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return {'being taken over', 1}
end
redis.call('ZADD', KEYS[1], now + life, ARGV[1])
local status = redis.call('DEL', KEYS[3]) == 1 and 'taken over' or 'renewed'

local lapsed = redis.call('ZCOUNT', KEYS[1], '-inf', now) > 0 and now >= tonumber(redis.call('GET', KEYS[5]) or 0)
return {status, (lapsed or redis.call('EXISTS', KEYS[2]) == 1) and 1 or 0}
