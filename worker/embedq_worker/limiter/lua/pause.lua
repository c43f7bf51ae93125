-- When a model is not called at all: the cool-down that the service asks for, and the breaker.
--
-- cool_until, cool_why: no call before, because the service said so (Retry-After, x-ratelimit-*) or nothing but refusals came back.
--
-- The breaker opens when the service refuses us (key, credits, model), or when for DOWN_AFTER at least DOWN_CALLS calls in a row
-- failed. Then nothing is granted for pause_ms, from two seconds to a minute; after it one call at a time, the probe. An answer
-- to the probe closes the breaker, for the whole fleet; another failure doubles the pause.
-- broken (why; absent: closed), broken_at, pause_ms, pause_until, probe (its holder), failures (in a row), failing_since

local LONGEST_WISH = 300 * 1000  -- a wrong Retry-After must not stop a model for a day
local SHORTEST_PAUSE = 2 * 1000
local LONGEST_PAUSE = 60 * 1000
local DOWN_AFTER = 10 * 1000
local DOWN_CALLS = 5

local function cool(milliseconds, why)
  local until_then = now + math.min(milliseconds, LONGEST_WISH)
  if milliseconds > 0 and until_then > (state.cool_until or 0) then
    state.cool_until, state.cool_why = until_then, why
  end
end

-- Calls that were in flight together fail together: once the breaker is open only the probe prolongs its pause.
local function break_off(call, why)
  if state.broken and call.holder ~= state.probe then
    return
  end
  if not state.broken then
    reply.opened = why
    state.broken_at = now
  end
  state.pause_ms = state.broken and math.min((state.pause_ms or SHORTEST_PAUSE) * 2, LONGEST_PAUSE) or SHORTEST_PAUSE
  state.pause_until = now + math.max(state.pause_ms, math.min(call.cool or 0, LONGEST_WISH))
  state.broken, state.probe = why, nil
end

-- The service answers, whatever it says of the texts.
local function mend(call)
  state.failures, state.failing_since, state.answered_at = nil, nil, now
  if state.broken and call.holder == state.probe then
    reply.closed = state.broken
    for _, field in ipairs({'broken', 'broken_at', 'pause_ms', 'pause_until', 'probe'}) do
      state[field] = nil
    end
  end
end

local function note_failure(call, why)
  count('failed')
  state.failures = (state.failures or 0) + 1
  state.failing_since = state.failing_since or math.max(call.at, state.answered_at or 0)
  local is_down = state.failures >= DOWN_CALLS and now - state.failing_since >= DOWN_AFTER
  if state.broken or is_down then
    break_off(call, why)
  end
end

-- Milliseconds until anything may be granted, and why; nil when it may be now.
local function barred()
  if (state.held_until or 0) > now then
    return state.held_until - now, 'memory'
  end
  if state.broken then
    local left = state.probe and lease_left(state.probe)
    if left or state.pause_until > now then
      return math.max(left or 0, state.pause_until - now), 'paused'
    end
  end
  if (state.cool_until or 0) > now then
    return state.cool_until - now, 'cooling'
  end
  return nil
end

-- What x-ratelimit-* says is left may not do for one more call like this one. A service that refills steadily has enough again after
-- a part of the seconds to its reset; one with fixed minutes answers 429 then, and says for how long.
local function heed(left, limit, reset, need, what)
  if not left or not reset or need <= left then
    return
  end
  local part = limit and limit > left and math.min(1, (need - left) / (limit - left)) or 1
  cool(reset * 1000 * part, 'the service has ' .. left .. ' ' .. what .. ' left')
end
