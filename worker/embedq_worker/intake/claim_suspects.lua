#!lua flags=allow-oom
-- Claim the right to run suspects: at most half of the fleet does so at a time, the others go on with what is new; where there
-- is nothing new, all.
--
-- KEYS[1]  hash  <prefix>embedq:alone     process → "deaths size" of the group that it runs; size 0 while it empties its hands
-- KEYS[2]  zset  <prefix>embedq:workers   process → server time in seconds at which its lease lapses
-- KEYS[3]  list  <prefix>embedq:suspects  "number deaths queue" of each group
-- KEYS[4]  zset  <prefix>embedq:dead      processes whose messages are being taken over
--
-- ARGV[1]  this process
-- ARGV[2]  1 if it has nothing else to do, else 0
-- ARGV[3…] the queues that it serves, without prefix
--
-- Returns 1 if it may, and there is a group for it; else 0.

redis.call('HDEL', KEYS[1], ARGV[1])
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return 0
end
-- Who is neither alive nor being taken over has left a claim behind.
for _, other in ipairs(redis.call('HKEYS', KEYS[1])) do
  if not redis.call('ZSCORE', KEYS[2], other) and not redis.call('ZSCORE', KEYS[4], other) then
    redis.call('HDEL', KEYS[1], other)
  end
end
local alive = redis.call('ZCOUNT', KEYS[2], redis.call('TIME')[1], '+inf')
local most = ARGV[2] == '1' and alive or math.max(1, math.floor(alive / 2))
if redis.call('HLEN', KEYS[1]) >= most then
  return 0
end
local serves = {}
for number = 3, #ARGV do
  serves[ARGV[number]] = true
end
for _, entry in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
  if serves[string.match(entry, '^%d+ %d+ (.*)$')] then
    redis.call('HSET', KEYS[1], ARGV[1], '0 0')
    return 1
  end
end
return 0
