-- How many calls may be in flight: the configured number, or less while the service pushes back.
--
-- Additive increase, multiplicative decrease (AIMD). A service that answers 429 or 503, or not in time, has its limit cut to
-- seven tenths, at most once a round trip: calls granted before the last cut do not count again. Each answer to a call that
-- used the last free slot raises it by 1/limit, one slot a round trip, up to the ceiling: the highest limit that was
-- not refused. There it stays, and one slot more is tried rarely: after PROBE_AFTER, twice as late after each
-- refusal, at once and twice as far after each success. When the configured number is reached again, all is forgotten.
--
-- Fields of the stem: limit, ceiling (both absent: the configured number), cut_at, probe_at (when to try above the ceiling),
-- probe_after (milliseconds), probing (since when the limit is above the ceiling), step (slots of the next try), good
-- (answers since then), limit_why and limit_at (for people), cuts (cuts in a row without an answer between).

local CUT = 0.7
local PROBE_AFTER = 30 * 1000
local PROBE_AFTER_AT_MOST = 600 * 1000
local BACK_OFF = 250
local BACK_OFF_AT_MOST = 30 * 1000

local function adapts()
  return limits.concurrency ~= 'fixed'
end

local function limit_now()
  if not adapts() or not state.limit then
    return limits.max_concurrency
  end
  return clamp(state.limit, 1, limits.max_concurrency)
end

local function slots()
  return math.floor(limit_now() + 1e-9)
end

local function set_limit(limit, why)
  state.limit, state.limit_why, state.limit_at = math.max(1, limit), why, now
end

local function back_to_configured()
  for _, field in ipairs({'limit', 'ceiling', 'probe_at', 'probe_after', 'probing', 'step', 'good'}) do
    state[field] = nil
  end
  state.limit_why, state.limit_at = 'the service takes the configured number again', now
end

-- With the first cut in a row the lower limit has to do; further ones without an answer between also stop all calls for a while.
local function back_off()
  state.cuts = (state.cuts or 0) + 1
  if state.cuts < 2 then
    return 0
  end
  return math.min(BACK_OFF_AT_MOST, BACK_OFF * 2 ^ (state.cuts - 2))
end

local function refuse_probe(why)
  state.probe_after = math.min((state.probe_after or PROBE_AFTER) * 2, PROBE_AFTER_AT_MOST)
  state.probe_at, state.probing, state.step, state.good = now + state.probe_after, nil, nil, nil
  set_limit(state.ceiling, 'more than the ceiling was tried and refused: ' .. why)
end

-- The service pushes back. Returns the milliseconds for which nothing should be called.
local function cut(call, why)
  if call.at < (state.cut_at or 0) then
    return 0
  end
  state.cut_at = now
  if not adapts() then
    return back_off()
  end
  if state.probing then
    refuse_probe(why)
    return 0
  end
  local limit = limit_now()
  state.ceiling = math.max(1, math.floor(limit + 1e-9) - 1)
  state.probe_after = PROBE_AFTER
  state.probe_at = now + PROBE_AFTER
  set_limit(limit * CUT, 'cut from ' .. math.floor(limit + 1e-9) .. ': ' .. why)
  return back_off()
end

local function probe()
  state.probing, state.good = now, 0
  state.step = math.max(1, state.step or 1)
  set_limit(state.ceiling + state.step, 'more than the ceiling is tried')
end

-- A call at a limit above the ceiling was answered; after a round of them that limit is the ceiling.
local function probe_answered(call)
  if call.at < state.probing then
    return
  end
  state.good = state.good + 1
  if state.good >= slots() then
    state.ceiling, state.probing, state.probe_at, state.probe_after = slots(), nil, now, PROBE_AFTER
    state.step = state.step * 2
    if state.ceiling >= limits.max_concurrency then
      back_to_configured()
    end
  end
end

-- The service answered. `call.full`: it took the last free slot, so that the limit is what holds us.
local function answered(call)
  state.cuts = nil
  if not adapts() or not state.limit or not call.full then
    return
  end
  if state.probing then
    probe_answered(call)
  elseif state.limit >= limits.max_concurrency then
    return
  elseif state.limit < state.ceiling then
    if call.at >= (state.cut_at or 0) then
      set_limit(math.min(state.ceiling, state.limit + 1 / state.limit), 'rising: the service answers')
    end
  elseif now >= state.probe_at then
    probe()
  end
end
