#!lua flags=allow-oom
-- Renew the records of messages in hand, so that nobody takes them for abandoned.
--
-- KEYS[1]  zset  <prefix>embedq:unacked_index  tag → server time, seconds
-- ARGV     tags
--
-- Returns nothing. A tag that is gone stays gone.

local now = redis.call('TIME')[1]
for _, tag in ipairs(ARGV) do
  redis.call('ZADD', KEYS[1], 'XX', now, tag)
end
