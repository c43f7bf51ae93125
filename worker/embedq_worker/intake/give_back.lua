#!lua flags=allow-oom
-- Put messages in hand back at the front of their queues, the oldest to be fetched first again.
--
-- KEYS[1]    hash  <prefix>embedq:unacked        tag → ["message","","queue"]
-- KEYS[2]    zset  <prefix>embedq:unacked_index  tag → server time, seconds
-- KEYS[3…]   list  the queue of each tag, youngest tag first
--
-- ARGV       for each tag: the tag, and its queue's name without prefix
--
-- Returns the number of messages put back. A tag without a record was acknowledged or taken over: it is skipped.

local unacked, index = KEYS[1], KEYS[2]
local given = 0
for number = 1, #KEYS - 2 do
  local tag, name = ARGV[2 * number - 1], ARGV[2 * number]
  local record = redis.call('HGET', unacked, tag)
  if record then
    local tail = ',"","' .. name .. '"]'
    redis.call('RPUSH', KEYS[2 + number], string.sub(record, 2, -(#tail + 1)))
    redis.call('HDEL', unacked, tag)
    given = given + 1
  end
  redis.call('ZREM', index, tag)
end
return given
