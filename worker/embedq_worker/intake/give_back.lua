#!lua flags=allow-oom
-- Put messages in hand back at the front of their queues, the oldest to be fetched first again. Of a process that runs
-- suspects alone they become a group of suspects again, with the deaths that it had.
--
-- KEYS[1]    hash  <prefix>embedq:unacked         tag → ["message","","queue"]
-- KEYS[2]    zset  <prefix>embedq:unacked_index   tag, all with score 0
-- KEYS[3]    hash  <prefix>embedq:alone           process → "deaths size" of the group that it runs
-- KEYS[4]    list  <prefix>embedq:suspects        "number deaths queue" of each group (take_over.lua)
-- KEYS[5]    string  <prefix>embedq:suspects_number  the last number of a group or killer
-- KEYS[6…]   list  the queue of each tag, youngest tag first
--
-- ARGV[1]    this process
-- ARGV[2…]   for each tag: the tag, and its queue's name without prefix
--
-- Returns the number of messages put back. A tag without a record was acknowledged or taken over: it is skipped.

local unacked, index, suspects = KEYS[1], KEYS[2], KEYS[4]
local deaths = string.match(redis.call('HGET', KEYS[3], ARGV[1]) or '', '^(%d+) [1-9]')

local group
local function suspect(record, name, place)
  if not group then
    group = redis.call('INCR', KEYS[5])
    redis.call('RPUSH', suspects, group .. ' ' .. deaths .. ' ' .. name)
  end
  local tag = 'suspects-' .. group .. ':' .. name .. string.format(':%05d', place)
  redis.call('HSET', unacked, tag, record)
  redis.call('ZADD', index, 0, tag)
end

local messages, given = #KEYS - 5, 0
for number = 1, messages do
  local tag, name = ARGV[2 * number], ARGV[2 * number + 1]
  local record = redis.call('HGET', unacked, tag)
  if record then
    if deaths then
      suspect(record, name, messages - number + 1)
    else
      redis.call('RPUSH', KEYS[5 + number], string.sub(record, 2, -(#name + 8)))
    end
    redis.call('HDEL', unacked, tag)
    given = given + 1
  end
  redis.call('ZREM', index, tag)
end
return given
