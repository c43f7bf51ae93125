-- Leases: the right to one concurrent call, for a limited time.
--
-- <stem>:handed  hash  holder → what was granted to it, as JSON, while a slot that was handed over is not confirmed
-- <stem>:leases  zset  holder → time at which its lease lapses by itself; a holder is <process>/<epoch>.<number>

local leases = stem .. ':leases'
local lapsed = redis.call('ZRANGEBYSCORE', leases, '-inf', now)
if #lapsed > 0 then
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
end

local held = redis.call('ZCARD', leases)

local function in_flight()
  return held
end

local function lease(holder, life)
  held = held + redis.call('ZADD', leases, now + life, holder)
end

-- Whether the holder had a lease.
local function free(holder)
  local freed = redis.call('ZREM', leases, holder)
  held = held - freed
  return freed == 1
end

-- Milliseconds until a holder's lease lapses, nil when it has none.
local function lease_left(holder)
  local lapses = redis.call('ZSCORE', leases, holder)
  return lapses and tonumber(lapses) - now
end

local function until_first_lapse()
  local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) - now
end

-- Calls in flight keep their leases. One that is gone is entered again, after a loss of memory or a long pause of its
-- process: the call is in flight, and counts.
local function renew_all(holders)
  for _, holder in ipairs(holders or {}) do
    lease(holder, request.lease)
  end
end

-- A slot handed over through a mailbox is the process's once it says so in time; else it has lapsed and may be another's.
local function confirm_all(holders)
  for _, holder in ipairs(holders or {}) do
    if lease_left(holder) then
      lease(holder, request.lease)
      redis.call('HDEL', stem .. ':handed', holder)
    else
      reply.lapsed = reply.lapsed or {}
      reply.lapsed[#reply.lapsed + 1] = holder
    end
  end
end

-- After an answer of ours was lost, a process says all that it holds; whatever else is in its name was granted in vain.
-- Returns the holders.
local function forget_others()
  local known = {}
  for _, holders in ipairs({request.renew or {}, request.confirm or {}}) do
    for _, holder in ipairs(holders) do
      known[holder] = true
    end
  end
  local forgotten = {}
  for _, holder in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    if string.sub(holder, 1, #process + 1) == process .. '/' and not known[holder] then
      free(holder)
      forgotten[#forgotten + 1] = holder
    end
  end
  return forgotten
end
