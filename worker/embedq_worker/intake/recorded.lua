#!lua flags=allow-oom
-- The tags that are recorded in a process's name.
--
-- KEYS[1]  zset  <prefix>embedq:unacked_index  tag, all with score 0
--
-- ARGV[1]  this process
-- ARGV[2]  how many it holds as far as it knows
--
-- Returns the tags, or nothing where the number is right.

local first, last = '[' .. ARGV[1] .. ':', '(' .. ARGV[1] .. ';'
if redis.call('ZLEXCOUNT', KEYS[1], first, last) == tonumber(ARGV[2]) then
  return {}
end
return redis.call('ZRANGEBYLEX', KEYS[1], first, last)
