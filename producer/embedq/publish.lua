-- Push a group of messages to its queue: all that the queue has room for, and once, however often the group is sent. Who has
-- lost the connection before the answer sends it again, and is answered from the marker.
--
-- KEYS[1]    list    <prefix>embedq.<collection>[.<lane>]  the queue
-- KEYS[2]    string  <prefix>embedq:sent:<task id>         the group's marker: how many of its messages were pushed
-- KEYS[3]    list    <prefix>embedq:wake                   given where an idle worker is to be woken
--
-- ARGV[1]    messages that the queue may hold afterwards; 0: any number
-- ARGV[2…]   the messages, in their order
--
-- Returns how many of the first messages are in the queue (or were: workers take them), and the queue's length.

local MARKER_SECONDS = 15  -- longer than a group is sent again for (retries.py), connecting and waiting included
local WAKE_TOKENS = 64     -- contract.py's MAX_WAKE_TOKENS

local queue, marker, wake = KEYS[1], KEYS[2], KEYS[3]
local limit, messages = tonumber(ARGV[1]), #ARGV - 1

local pushed = messages
if limit > 0 then
  pushed = math.max(0, math.min(messages, limit - redis.call('LLEN', queue)))
end

local before
if pushed > 0 then
  before = redis.call('SET', marker, pushed, 'NX', 'GET', 'EX', MARKER_SECONDS)
else
  before = redis.call('GET', marker)
end
if before or pushed == 0 then
  return {tonumber(before) or 0, redis.call('LLEN', queue)}
end

local length = redis.call('LPUSH', queue, unpack(ARGV, 2, 1 + pushed))
if wake then
  redis.call('LPUSH', wake, '1')
  redis.call('LTRIM', wake, 0, WAKE_TOKENS - 1)
end
return {pushed, length}
