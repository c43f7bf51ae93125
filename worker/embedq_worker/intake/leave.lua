#!lua flags=allow-oom
-- A process leaves in order, with nothing in its hands.
--
-- KEYS[1]  zset    <prefix>embedq:workers         process → server time in seconds at which its lease lapses
-- KEYS[2]  hash    <prefix>embedq:alone           process → "deaths size" of the group that it runs
-- KEYS[3]  zset    <prefix>embedq:unacked_index   tag, all with score 0
--
-- ARGV[1]  this process
--
-- Returns 1, or 0 when messages are recorded in its name all the same: then its lease lapses, and they are taken over.

if redis.call('ZLEXCOUNT', KEYS[3], '[' .. ARGV[1] .. ':', '(' .. ARGV[1] .. ';') > 0 then
  return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
