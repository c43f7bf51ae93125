#!lua flags=allow-oom
-- Confirm acknowledgements and move messages from their queues into this process's hands, in one step:
-- whatever dies after it, a message is either in its queue or in a record.
--
-- KEYS[1]    hash  <prefix>embedq:unacked         tag → ["message","","queue"] as kombu's QoS.append writes it
-- KEYS[2]    zset  <prefix>embedq:unacked_index   tag, all with score 0, so that a process's tags are a range by name
-- KEYS[3]    zset  <prefix>embedq:workers         process → server time in seconds at which its lease lapses
-- KEYS[4]    list  <prefix>embedq:suspects        groups of messages whose worker died (take_over.lua)
-- KEYS[5]    list  <prefix>embedq:killers         messages that are to become dead letters (take_over.lua)
-- KEYS[6…]   list  the queues, in the order in which they are to be served
--
-- ARGV[1]    this process
-- ARGV[2]    number of this fetch, never used twice by the process, of a fixed width, so that tags sort by their age
-- ARGV[3]    bytes of messages after which the fetch ends (one message always fits)
-- ARGV[4]    n, the number of acknowledged tags, then the n tags
-- ARGV[5+n…] for each queue: its name without prefix, and how many messages it has room for
--
-- Returns whether the process has a lease (nothing is fetched without: nobody would take the messages over), the number of
-- groups of suspects, the number of killers, then queue number (from 1), tag, message, queue number, tag, message, …
-- A tag is <process>:<queue>:<fetch>.<message>.
-- It may run when the server is out of memory: it moves messages, and must, for the memory to come back.
-- A message is never parsed here: a malformed one would abort the script half way. So would a key that is no list: nothing can be
-- queued there, and other queues are served all the same.

local unacked, index, process = KEYS[1], KEYS[2], ARGV[1]
local budget, acknowledged = tonumber(ARGV[3]), tonumber(ARGV[4])

for first = 5, 4 + acknowledged, 1000 do
  local last = math.min(first + 999, 4 + acknowledged)
  redis.call('HDEL', unacked, unpack(ARGV, first, last))
  redis.call('ZREM', index, unpack(ARGV, first, last))
end

local leased = redis.call('ZSCORE', KEYS[3], process) and 1 or 0
local reply = {leased, redis.call('LLEN', KEYS[4]), redis.call('LLEN', KEYS[5])}
if leased == 0 then
  return reply
end

local taken, bytes = 0, 0
for number = 1, #KEYS - 5 do
  local queue, argument = KEYS[5 + number], 4 + acknowledged + 2 * number
  local name, room = ARGV[argument - 1], tonumber(ARGV[argument])
  while room > 0 and bytes < budget do
    local message = redis.pcall('RPOP', queue)
    if type(message) ~= 'string' then
      if message and not string.find(message.err, 'WRONGTYPE', 1, true) then
        return message
      end
      break
    end
    taken, room, bytes = taken + 1, room - 1, bytes + #message
    local tag = process .. ':' .. name .. ':' .. ARGV[2] .. string.format('.%05d', taken)
    redis.call('HSET', unacked, tag, '[' .. message .. ',"","' .. name .. '"]')
    redis.call('ZADD', index, 0, tag)
    reply[3 * taken + 1] = number
    reply[3 * taken + 2] = tag
    reply[3 * taken + 3] = message
  end
end
return reply
