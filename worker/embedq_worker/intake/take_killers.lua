#!lua flags=allow-oom
-- Take a killer into this process's hands, to make a dead letter of it. It is not run.
--
-- KEYS[1]  hash  <prefix>embedq:unacked        tag → ["message","","queue"]
-- KEYS[2]  zset  <prefix>embedq:unacked_index  tag, all with score 0
-- KEYS[3]  zset  <prefix>embedq:workers        process → server time in seconds at which its lease lapses
-- KEYS[4]  list  <prefix>embedq:killers        records
--
-- ARGV[1]  this process
-- ARGV[2]  number of this fetch, as in fetch.lua
--
-- Returns queue, tag, message; nothing when there is none.

if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  return {}
end
local record = redis.call('LPOP', KEYS[4])
if not record then
  return {}
end
local message, queue = string.match(record, '^%[(.*),"","([^"]*)"%]$')
local tag = ARGV[1] .. ':' .. queue .. ':' .. ARGV[2] .. '.00001'
redis.call('HSET', KEYS[1], tag, record)
redis.call('ZADD', KEYS[2], 0, tag)
return {queue, tag, message}
