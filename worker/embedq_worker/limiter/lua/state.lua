-- What the fleet knows of one model: read at the start, changed in memory, written back at the end.
--
-- KEYS[1]  hash  <prefix>embedq:model:<model>, called the stem below; its fields, times in milliseconds by the server:
--   heard_at                  about when a process last said something
--   epoch began_at            name of this memory; another one than a process knows means that Redis lost its own
--   held_until                nothing is granted before: calls from before the loss may be in flight
--   granted calls throttled failed refused    counts since the epoch, for people
--   limit ceiling …           see adapt.lua
--   cool_until broken …       see pause.lua
--   requests_tat tokens_tat   see rates.lua
--   served_<lane> live_credit bulk_credit     see turns.lua
--   alarm_by alarm_at         the process that asks again when time alone frees something, so that not all do
-- <stem>:settings  hash  limits set for the running fleet (`embedq limits set`); they win over the workers' files
-- <stem>:processes zset  process → time until which it counts as alive
--
-- ARGV[1]  the request, as JSON: embedq_worker.limiter.exchange.Request

local stem = KEYS[1]
local request = cjson.decode(ARGV[1])
local process = request.process
local now = math.floor(read_clock())  -- whole: JSON's 14 digits would round a fraction into the next slice of rates.lua
local FORGOTTEN = 60 * 1000  -- milliseconds after which a dead process is taken off the list
local FLEET = 400  -- processes from which they speak less often
local reply = {}

local WORDS = {epoch = true, alarm_by = true, broken = true, probe = true, cool_why = true, limit_why = true}
local before, state = {}, {}
do
  local flat = redis.call('HGETALL', stem)
  for at = 1, #flat, 2 do
    local value = WORDS[flat[at]] and flat[at + 1] or tonumber(flat[at + 1])
    before[flat[at]], state[flat[at]] = value, value
  end
end

local HEARD = 1000  -- milliseconds: to write it each time would cost more than it tells

-- The clock was set back, or a new master's is slow: what lies in the future would hold the fleet up until then, for hours maybe.
-- This memory is given up. As calls from before may be in flight that costs a lease: a shorter step is waited for.
if (state.heard_at or 0) > now + request.lease then
  state = {held_until = now + request.lease}
  redis.call('DEL', stem .. ':leases', stem .. ':handed', stem .. ':spent', stem .. ':processes')
end
if now >= (state.heard_at or 0) + HEARD then
  state.heard_at = now
end

local limits = request.limits

local RANGES = {max_concurrency = {1, 1e6}, requests_per_minute = {0, 1e12}, tokens_per_minute = {0, 1e12}}

-- What is no limit (board.py) is passed over: a slip of somebody's hand must not stop the fleet.
local function set_live(field, text)
  local range, number = RANGES[field], tonumber(string.match(text, '^%d+$'))
  if range and number and number >= range[1] and number <= range[2] then
    limits[field] = number
  elseif field == 'concurrency' and (text == 'aimd' or text == 'fixed') then
    limits[field] = text
  end
end

do
  local flat = redis.call('HGETALL', stem .. ':settings')
  for at = 1, #flat, 2 do
    set_live(flat[at], flat[at + 1])
  end
end

local function as_text(value)
  return type(value) == 'number' and string.format('%.17g', value) or tostring(value)
end

local function save()
  local changed, gone = {}, {}
  for field, value in pairs(state) do
    if before[field] ~= value then
      changed[#changed + 1] = field
      changed[#changed + 1] = as_text(value)
    end
  end
  for field in pairs(before) do
    if state[field] == nil then
      gone[#gone + 1] = field
    end
  end
  if #changed > 0 then
    redis.call('HSET', stem, unpack(changed))
  end
  if #gone > 0 then
    redis.call('HDEL', stem, unpack(gone))
  end
end

local function count(field)
  state[field] = (state[field] or 0) + 1
end

local function clamp(value, lowest, highest)
  return math.max(lowest, math.min(highest, value))
end

-- A process that knows another epoch has seen Redis lose its memory: calls whose leases are gone may be in flight, so nothing is
-- granted for the life of a lease after it. Where nobody knows an older one this is the beginning, and nothing has to be
-- waited for.
local function note_epoch()
  if not state.epoch then
    state.epoch, state.began_at = 'e' .. string.format('%.0f', now) .. '-' .. string.sub(process, -6), now
  end
  if request.epoch and request.epoch ~= state.epoch then
    state.held_until = math.max(state.held_until or 0, state.began_at + request.lease)
  end
  reply.epoch = state.epoch
end

local function note_alive()
  local processes = stem .. ':processes'
  if redis.call('ZADD', processes, now + request.alive, process) == 1 then
    redis.call('ZREMRANGEBYSCORE', processes, '-inf', now - FORGOTTEN)
  end
end

-- Milliseconds between two words of a process: longer in a large fleet, whose heartbeats would be most of what Redis does.
local function heartbeat()
  return clamp(redis.call('ZCOUNT', stem .. ':processes', now, '+inf') / FLEET, 1, 5) * 1000
end

local function note_dead(other)
  redis.call('ZREM', stem .. ':processes', other)
end

local function is_alive(other)
  local until_then = redis.call('ZSCORE', stem .. ':processes', other)
  return until_then and tonumber(until_then) > now
end
