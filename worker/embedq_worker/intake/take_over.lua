#!lua flags=allow-oom
-- Take messages away from a process whose lease has lapsed. One of them may have killed it, so none goes back to its queue: they
-- become suspects, in groups of one queue, which run with nothing else in hand (take_suspects.lua). When that kills a
-- process again, the group is split in parts, until a message is alone; only then its deaths are counted, and after some it
-- is a killer. Where workers also die of something else, one more is wanted for each of these deaths in the last minute: a
-- message that has bad luck must not be taken for a killer. One call takes one group, so that the server is never held up for
-- long. Their records stay where they are, under the tags suspects-<number>:<queue>:<message> and killers:<queue>:<number>.
--
-- KEYS[1]  zset    <prefix>embedq:workers          process → server time in seconds at which its lease lapses
-- KEYS[2]  zset    <prefix>embedq:dead             processes whose messages are being taken over, by the time of it
-- KEYS[3]  string  <prefix>embedq:amnesty          server time before which nobody is taken over
-- KEYS[4]  hash    <prefix>embedq:unacked          tag → ["message","","queue"]
-- KEYS[5]  zset    <prefix>embedq:unacked_index    tag, all with score 0
-- KEYS[6]  hash    <prefix>embedq:alone            process → "deaths size" of the group that it runs; size 0 while it empties its hands
-- KEYS[7]  list    <prefix>embedq:suspects         "number deaths queue" of each group
-- KEYS[8]  string  <prefix>embedq:suspects_number  the last number of a group or killer
-- KEYS[9]  list    <prefix>embedq:killers          tags of killers
-- KEYS[10] zset    <prefix>embedq:deaths           processes that died, by the time of it
--
-- ARGV[1]  stem of the keys embedq:taken_over:<process>
-- ARGV[2]  bytes of messages after which a group ends (one message always fits)
-- ARGV[3]  deaths while alone after which a message is a killer
--
-- Returns nothing when nobody is to be taken over, else the process, how many of its messages were taken, and what became
-- of them: 'suspects', 'killer', 'query' (dropped: whoever asked has given up), or 'done' when it has none left.
-- A message is never parsed here.

local GROUP = 128  -- messages: few enough to bisect quickly, many enough that the innocent are soon done
local PARTS = 8
local RECENT = 60  -- seconds
local MORE = 9  -- deaths that are wanted in addition, at most
local REMEMBERED = 86400  -- seconds for which a process that comes back is told

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function next_dead()
  local dead = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if dead or now < tonumber(redis.call('GET', KEYS[3]) or 0) then
    return dead
  end
  dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
  if dead then
    redis.call('ZREM', KEYS[1], dead)
    redis.call('ZADD', KEYS[2], now, dead)
    redis.call('SET', ARGV[1] .. dead, 1, 'EX', REMEMBERED)
    redis.call('ZADD', KEYS[10], now, dead)
    redis.call('EXPIRE', KEYS[10], RECENT)
  end
  return dead
end

-- The records of the first queue among some tags, the oldest first; they leave the dead one's hands.
local function take(tags)
  local queue, records, bytes = string.match(tags[1], '^[^:]*:(.*):'), {}, 0
  for _, tag in ipairs(tags) do
    if string.match(tag, '^[^:]*:(.*):') ~= queue or (bytes >= tonumber(ARGV[2])) then
      break
    end
    local record = redis.call('HGET', KEYS[4], tag)
    if record then
      records[#records + 1] = record
      bytes = bytes + #record
    end
    redis.call('HDEL', KEYS[4], tag)
    redis.call('ZREM', KEYS[5], tag)
  end
  return queue, records
end

local function keep(tag, record)
  redis.call('HSET', KEYS[4], tag, record)
  redis.call('ZADD', KEYS[5], 0, tag)
end

local dead = next_dead()
if not dead then
  return nil
end
local deaths, size = string.match(redis.call('HGET', KEYS[6], dead) or '0 0', '^(%d+) (%d+)$')
deaths, size = tonumber(deaths), tonumber(size)
local most = size > 0 and math.ceil(size / PARTS) or GROUP
local tags = redis.call('ZRANGEBYLEX', KEYS[5], '[' .. dead .. ':', '(' .. dead .. ';', 'LIMIT', 0, most)
if #tags == 0 then
  redis.call('ZREM', KEYS[2], dead)
  redis.call('HDEL', KEYS[6], dead)
  return {dead, 0, 'done'}
end

local queue, records = take(tags)
if #records == 0 then
  return {dead, 0, 'suspects'}
end
if string.sub(queue, -6) == '.query' then
  return {dead, #records, 'query'}
end
if size == 1 then
  deaths = deaths + 1
end
local number = redis.call('INCR', KEYS[8])
redis.call('ZREMRANGEBYSCORE', KEYS[10], '-inf', now - RECENT)
local others = math.max(0, redis.call('ZCARD', KEYS[10]) - deaths)
if #records == 1 and deaths >= tonumber(ARGV[3]) + math.min(MORE, others) then
  local tag = 'killers:' .. queue .. ':' .. number
  keep(tag, records[1])
  redis.call('RPUSH', KEYS[9], tag)
  return {dead, #records, 'killer'}
end
for at, record in ipairs(records) do
  keep('suspects-' .. number .. ':' .. queue .. string.format(':%05d', at), record)
end
redis.call('RPUSH', KEYS[7], number .. ' ' .. deaths .. ' ' .. queue)
return {dead, #records, 'suspects'}
