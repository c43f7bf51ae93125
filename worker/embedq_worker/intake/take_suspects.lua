#!lua flags=allow-oom
-- Take the next group of suspects into the hands of a process that has nothing else in them; without one its claim ends.
--
-- KEYS[1]  hash  <prefix>embedq:unacked        tag → ["message","","queue"]
-- KEYS[2]  zset  <prefix>embedq:unacked_index  tag, all with score 0
-- KEYS[3]  zset  <prefix>embedq:workers        process → server time in seconds at which its lease lapses
-- KEYS[4]  hash  <prefix>embedq:alone          process → "deaths size" of the group that it runs
-- KEYS[5]  list  <prefix>embedq:suspects       "number deaths queue" of each group (take_over.lua)
--
-- ARGV[1]  this process
-- ARGV[2]  number of this fetch, as in fetch.lua
-- ARGV[3…] the queues that it serves, without prefix
--
-- Returns queue, tag, message, queue, tag, message, …; nothing when there is no group for it, or when it has lost its lease or
-- its claim.

local process = ARGV[1]
local serves = {}
for number = 3, #ARGV do
  serves[ARGV[number]] = true
end

local function next_group()
  for _, entry in ipairs(redis.call('LRANGE', KEYS[5], 0, -1)) do
    local number, deaths, queue = string.match(entry, '^(%d+) (%d+) (.*)$')
    if serves[queue] then
      redis.call('LREM', KEYS[5], 1, entry)
      return 'suspects-' .. number, deaths, queue
    end
  end
end

if not redis.call('ZSCORE', KEYS[3], process) or not redis.call('HGET', KEYS[4], process) then
  redis.call('HDEL', KEYS[4], process)
  return {}
end
local group, deaths, queue = next_group()
if not group then
  redis.call('HDEL', KEYS[4], process)
  return {}
end
local reply = {}
for number, suspect in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], '[' .. group .. ':', '(' .. group .. ';')) do
  local tag = process .. ':' .. queue .. ':' .. ARGV[2] .. string.format('.%05d', number)
  local record = redis.call('HGET', KEYS[1], suspect)
  redis.call('HDEL', KEYS[1], suspect)
  redis.call('ZREM', KEYS[2], suspect)
  if record then
    redis.call('HSET', KEYS[1], tag, record)
    redis.call('ZADD', KEYS[2], 0, tag)
    reply[#reply + 1] = queue
    reply[#reply + 1] = tag
    reply[#reply + 1] = string.sub(record, 2, -(#queue + 8))
  end
end
if #reply == 0 then
  redis.call('HDEL', KEYS[4], process)
else
  redis.call('HSET', KEYS[4], process, deaths .. ' ' .. #reply / 3)
end
return reply
