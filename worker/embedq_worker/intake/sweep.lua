#!lua flags=allow-oom
-- Put messages whose worker no longer renews them back at the front of their queues, byte for byte.
--
-- KEYS[1]  hash  <prefix>embedq:unacked        tag → ["message","","queue"]
-- KEYS[2]  zset  <prefix>embedq:unacked_index  tag → server time of the last renewal, seconds
--
-- ARGV[1]  seconds without renewal after which a message is abandoned
-- ARGV[2]  the prefix of every key; the queues' names come from the records, which only the fetch script writes
--
-- Returns the number of messages put back; at most 200 a call.
-- A message is never parsed here; the queue's name stands behind the last three quotes of its record.

local unacked, index = KEYS[1], KEYS[2]
local before = redis.call('TIME')[1] - tonumber(ARGV[1])
local given = 0
for _, tag in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', before, 'LIMIT', 0, 200)) do
  local record = redis.call('HGET', unacked, tag)
  if record then
    local message, name = string.match(record, '^%[(.*),"","([^"]*)"%]$')
    redis.call('RPUSH', ARGV[2] .. name, message)
    redis.call('HDEL', unacked, tag)
    given = given + 1
  end
  redis.call('ZREM', index, tag)
end
return given
