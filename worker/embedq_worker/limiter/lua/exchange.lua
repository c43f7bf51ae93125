-- One exchange between a process and the fleet's state of a model: it says what ended, what it holds and what it wants, and gets
-- grants, or how long to wait and why. Slots that are another process's turn are put into that one's mailbox.
--
-- KEYS[2]  <prefix>embedq:grants:, the stem of the mailboxes: a list a process, each entry {"model", "grant"} or {"model", "alarm"}
--
-- Returns JSON: embedq_worker.limiter.exchange.Reply

local HAND_OVER = 1000  -- milliseconds in which a slot that was handed over must be confirmed
local MAILBOX_LIFE = 10 * 1000
local LATE = 100  -- milliseconds by which the process with the alarm may be late
local PATIENCE = MINUTE / 12  -- milliseconds for which queries may go before a claim whose turn it is
local SPARE = 500  -- milliseconds after which others look whether it did its duty

local function settle_shares(call)
  local shares = call.shares or {}
  shares[call.collection] = shares[call.collection] or 0
  for collection, tokens in pairs(shares) do
    adjust(call.lane, collection, tokens - (collection == call.collection and call.reserved or 0))
  end
end

local function heed_allowance(call)
  local said = call.allowance
  if said then
    heed(said.remaining_requests, said.limit_requests, said.requests_reset, 1, 'requests')
    heed(said.remaining_tokens, said.limit_tokens, said.tokens_reset, call.reserved, 'tokens')
  end
end

-- Nothing was learned of the service: if it was the probe, another call may be.
local function no_probe(call)
  if state.probe == call.holder then
    state.probe = nil
  end
end

local outcomes = {
  answered = function(call)
    mend(call)
    answered(call)
  end,
  neutral = mend,  -- the service refused a text: it is there
  throttled = function(call)
    count('throttled')
    cool(math.max(cut(call, call.why), call.cool or 0), call.why)
    if state.broken then
      break_off(call, call.why)
    end
  end,
  overloaded = function(call)
    cool(math.max(cut(call, call.why), call.cool or 0), call.why)
    note_failure(call, call.why)
  end,
  failed = function(call)
    cool(call.cool or 0, call.why)
    note_failure(call, call.why)
  end,
  refused = function(call)
    count('refused')
    break_off(call, call.why)
  end,
  unused = no_probe,
  dropped = no_probe,
}

local function correct_call(call)
  if call.outcome == 'unused' then
    correct(call.at, -1, -call.reserved)
    settle_shares(call)
    return
  end
  count('calls')
  local most = call.reserved * 20 + 1000  -- a usage beyond that is nonsense, and would stop the model for long
  correct(call.at, 0, math.min(call.tokens or call.reserved, most) - call.reserved)
  if call.shares then
    settle_shares(call)
  end
end

-- Only who holds a lease is heard: a process that does not know whether it was heard tells everything again.
local function end_call(call)
  if free(call.holder) then
    call.at = math.min(call.at, now)  -- it was granted before the clock was set back
    correct_call(call)
    outcomes[call.outcome](call)
    heed_allowance(call)
  end
end

local function send(who, entry)
  local mailbox = KEYS[2] .. who
  redis.call('RPUSH', mailbox, cjson.encode(entry))
  redis.call('PEXPIRE', mailbox, MAILBOX_LIFE)
end

local function grant(found)
  count('granted')
  local holder = found.process .. '/' .. state.epoch .. '.' .. string.format('%d', state.granted)
  local is_own = found.process == process
  lease(holder, is_own and request.lease or math.min(request.lease, HAND_OVER))
  if state.broken then
    state.probe = holder
  end
  spend(found.lane, found.tokens)
  take_turn(found)
  local given = {
    holder = holder, lane = found.lane, collection = found.collection, tokens = found.tokens, at = now,
    full = in_flight() >= slots(),
  }
  if is_own then
    reply.grants = reply.grants or {}
    reply.grants[#reply.grants + 1] = given
  else
    redis.call('HSET', stem .. ':handed', holder, cjson.encode(given))
    send(found.process, {model = request.model, grant = given})
  end
end

-- Whether queries have gone before a claim for long enough, that waits for nothing but room in the window.
local function is_patient(found, is_window)
  if not is_window then
    state.waits_since = nil
    return true
  end
  state.waits_since = state.waits_since or now
  local is_huge = found.tokens > (limits.tokens_per_minute or 0) * PACE
  return now - state.waits_since < (is_huge and MINUTE or PATIENCE)
end

-- The claim if the rates allow it now, else a query that they allow, as those do not wait for the pace; nil, the wait and why else.
local function within_rates(found)
  local wait, why, is_window = rate_wait(found.tokens, found.lane == 'query' or found.is_owed)
  if found.lane == 'query' or wait <= 0 then
    state.waits_since = found.lane == 'query' and state.waits_since or nil
    return wait <= 0 and found or nil, wait, why
  end
  local query = is_patient(found, is_window) and next_of_lane('query')
  if query and rate_wait(query.tokens, true) <= 0 then
    return query
  end
  return nil, wait, why
end

-- A slot that was handed over and is not confirmed was not called. Returns whether the holder had such a one.
local function take_back(holder)
  local text = redis.call('HGET', stem .. ':handed', holder)
  if not text then
    return false
  end
  local given = cjson.decode(text)
  redis.call('HDEL', stem .. ':handed', holder)
  correct(given.at, -1, -given.tokens)
  adjust(given.lane, given.collection, -given.tokens)
  return true
end

-- Whoever did not confirm in time is taken for dead until it speaks.
local function take_back_lapsed()
  for _, holder in ipairs(lapsed) do
    if take_back(holder) then
      note_dead(string.match(holder, '^(.*)/'))
    end
  end
end

-- Grant all that may be granted now. Returns how long time alone has to pass until more may be, why, and whose turn it is then; nil
-- when nobody waits.
local function hand_out()
  while true do
    local found = next_claim()
    if not found then
      return nil
    end
    local wait, why = barred()
    if wait then
      return wait, why, found.process
    end
    if in_flight() >= slots() then
      return until_first_lapse(), 'concurrency', found.process
    end
    local allowed
    allowed, wait, why = within_rates(found)
    if not allowed then
      return wait, why, found.process
    end
    grant(allowed)
  end
end

-- When only time has to pass, one process has the alarm and asks again exactly then. The others ask a little later, in case that
-- it is dead; so a thousand that wait cost no more than a few. A process that wants nothing itself gives the alarm to the next one.
local function set_alarm(wait, whose_turn)
  local at = now + wait
  local other = state.alarm_by and state.alarm_by ~= process and is_alive(state.alarm_by)
  if other and state.alarm_at > now - LATE and state.alarm_at < at + LATE then
    return wait + SPARE + (now * 137) % SPARE
  end
  state.alarm_by, state.alarm_at = process, at
  if request.waits or whose_turn == process then
    return wait
  end
  state.alarm_by = whose_turn
  send(whose_turn, {model = request.model, alarm = wait})
  return nil
end

note_epoch()
take_back_lapsed()
note_alive()
for _, call in ipairs(request.ended or {}) do
  end_call(call)
end
renew_all(request.renew)
confirm_all(request.confirm)
if request.resync then
  for _, holder in ipairs(forget_others()) do
    take_back(holder)
  end
end
claim_all(request.wants)
local wait, why, whose_turn = hand_out()
if wait then
  reply.wait, reply.why = set_alarm(wait, whose_turn), why
else
  state.alarm_by, state.alarm_at = nil, nil
end
reply.paused = state.broken
reply.slots, reply.heartbeat = slots(), heartbeat()
reply.tokens_per_minute = limits.tokens_per_minute
reply.requests_per_minute = limits.requests_per_minute
save_spent()
save()
return cjson.encode(reply)
