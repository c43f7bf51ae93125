-- The workers as they stand: their reports, and the messages that are in nobody's hands: those of dead workers, and suspects.
-- Nothing is written, and no message or record is read.
--
-- KEYS[1]  zset    <prefix>embedq:workers         process → server time in seconds at which its lease lapses
-- KEYS[2]  zset    <prefix>embedq:dead            processes whose messages are being taken over
-- KEYS[3]  zset    <prefix>embedq:unacked_index   tag <process>:<queue>:…, suspects-<number>:<queue>:…, killers:<queue>:…
-- KEYS[4]  list    <prefix>embedq:suspects        "number deaths queue" of each group of suspects
--
-- ARGV[1]  stem of the keys <prefix>embedq:worker:<process>: the reports
--
-- Returns the reports, each as fields and values in turn; the processes that do not report, each with the seconds for which
-- its lease still holds (less than 0: it has lapsed) and the messages in its hands; and queue, suspects, queue, suspects, …

local GROUPS = 1000  -- of suspects that are counted by queue: each is some dozen messages

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function held(holder)
  return redis.call('ZLEXCOUNT', KEYS[3], '[' .. holder .. ':', '(' .. holder .. ';')
end

local reports, silent = {}, {}
local workers = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for at = 1, #workers, 2 do
  local report = redis.call('HGETALL', ARGV[1] .. workers[at])
  if #report > 0 then
    reports[#reports + 1] = report
  else
    silent[#silent + 1] = {workers[at], tostring(workers[at + 1] - now), held(workers[at])}
  end
end
for _, dead in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  silent[#silent + 1] = {dead, '-1', held(dead)}
end

local suspects = {}
if redis.call('LLEN', KEYS[4]) > 0 then
  for _, group in ipairs(redis.call('LRANGE', KEYS[4], 0, GROUPS - 1)) do
    local number, queue = string.match(group, '^(%d+) %d+ (.*)$')
    suspects[#suspects + 1] = queue
    suspects[#suspects + 1] = held('suspects-' .. number)
  end
end
return {reports, silent, suspects}
