#!lua flags=allow-oom
-- Take a killer into this process's hands, to make a dead letter of it. It is not run.
--
-- KEYS[1]  hash  <prefix>embedq:unacked        tag → ["message","","queue"]
-- KEYS[2]  zset  <prefix>embedq:unacked_index  tag, all with score 0
-- KEYS[3]  zset  <prefix>embedq:workers        process → server time in seconds at which its lease lapses
-- KEYS[4]  list  <prefix>embedq:killers        tags, killers:<queue>:<number>
--
-- ARGV[1]  this process
-- ARGV[2]  number of this fetch, as in fetch.lua
--
-- Returns queue, tag, message; nothing when there is none.

if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  return {}
end
local killer = redis.call('LPOP', KEYS[4])
local record = killer and redis.call('HGET', KEYS[1], killer)
if not record then
  return {}
end
local queue = string.match(killer, '^killers:(.*):')
redis.call('HDEL', KEYS[1], killer)
redis.call('ZREM', KEYS[2], killer)
local tag = ARGV[1] .. ':' .. queue .. ':' .. ARGV[2] .. '.00001'
redis.call('HSET', KEYS[1], tag, record)
redis.call('ZADD', KEYS[2], 0, tag)
return {queue, tag, string.sub(record, 2, -(#queue + 8))}
