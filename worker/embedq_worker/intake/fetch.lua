#!lua flags=allow-oom
-- Confirm acknowledgements and move messages from their queues into this worker's hands, in one step:
-- whatever dies after it, a message is either in its queue or in a record.
--
-- KEYS[1]    hash  <prefix>embedq:unacked        tag → ["message","","queue"] as kombu's QoS.append writes it
-- KEYS[2]    zset  <prefix>embedq:unacked_index  tag → server time of the fetch, seconds
-- KEYS[3…]   list  the queues, in the order in which they are to be served
--
-- ARGV[1]    stem of the tags; unique for this call
-- ARGV[2]    bytes of messages after which the fetch ends (one message always fits)
-- ARGV[3]    n, the number of acknowledged tags, then the n tags
-- ARGV[4+n…] for each queue: its name without prefix, and how many messages it has room for
--
-- Returns queue number (from 1), tag, message, queue number, tag, message, …
-- It may run when the server is out of memory: it moves messages, and must, for the memory to come back.
-- A message is never parsed here: a malformed one would abort the script half way.

local unacked, index = KEYS[1], KEYS[2]
local stem, budget, acknowledged = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

for first = 4, 3 + acknowledged, 1000 do
  local last = math.min(first + 999, 3 + acknowledged)
  redis.call('HDEL', unacked, unpack(ARGV, first, last))
  redis.call('ZREM', index, unpack(ARGV, first, last))
end

local fetched, now, taken, bytes = {}, redis.call('TIME')[1], 0, 0
for number = 1, #KEYS - 2 do
  local queue, argument = KEYS[2 + number], 3 + acknowledged + 2 * number
  local name, room = ARGV[argument - 1], tonumber(ARGV[argument])
  while room > 0 and bytes < budget do
    local message = redis.call('RPOP', queue)
    if not message then
      break
    end
    taken, room, bytes = taken + 1, room - 1, bytes + #message
    local tag = stem .. ':' .. taken
    redis.call('HSET', unacked, tag, '[' .. message .. ',"","' .. name .. '"]')
    redis.call('ZADD', index, now, tag)
    fetched[3 * taken - 2] = number
    fetched[3 * taken - 1] = tag
    fetched[3 * taken] = message
  end
end
return fetched
