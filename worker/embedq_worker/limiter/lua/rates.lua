-- Requests and tokens a minute.
--
-- Two rules hold together. The pace (GCRA: one "theoretical arrival time" a rate, requests_tat and tokens_tat) spreads the
-- minute's allowance evenly, with a short lead. The window counts what was granted within the last minute in 240 slices and
-- refuses what would exceed the limit, so that no sliding minute does, however large a single request is. The window
-- is a little longer than a minute, by SLACK, for the time between a grant and the arrival of its call at the service.
--
-- <stem>:spent  hash  first (the oldest slice), requests, tokens (sums over all slices), <slice> → "requests tokens"
--
-- Queries neither keep nor count for the pace and may use the whole window; the others use PACE of it, so that a query need not
-- wait for its turn. A request whose tokens alone exceed a minute's is granted when nothing else was for a minute.

local MINUTE = request.minute
local SLICE = MINUTE / 240
local SLACK = MINUTE / 120
local PACE = 0.985
local LEAD = MINUTE / 100

local spent_key = stem .. ':spent'
local spent

-- A debt that was made under another limit says nothing under this one.
for field, limit in pairs({requests_tat = limits.requests_per_minute or 0, tokens_tat = limits.tokens_per_minute or 0}) do
  if state[field .. '_limit'] ~= limit then
    state[field .. '_limit'], state[field] = limit, nil
  end
end

local function slice_of(at)
  return math.floor(at / SLICE)
end

local function read_spent()
  if not spent then
    local sums = redis.call('HMGET', spent_key, 'first', 'requests', 'tokens')
    spent = {first = tonumber(sums[1]), requests = tonumber(sums[2]) or 0, tokens = tonumber(sums[3]) or 0}
  end
  return spent
end

local function slice_content(text)
  local requests, tokens = string.match(text, '^(%S+) (%S+)$')
  return tonumber(requests), tonumber(tokens)
end

local function save_spent()
  if spent and spent.is_changed then
    redis.call('HSET', spent_key, 'first', as_text(spent.first), 'requests', as_text(spent.requests), 'tokens',
      as_text(spent.tokens))
    redis.call('PEXPIRE', spent_key, MINUTE * 2)
  end
end

-- Forget the slices that ended longer than a minute and SLACK ago.
local function slide()
  read_spent()
  local oldest = slice_of(now - MINUTE - SLACK)
  if not spent.first or spent.first >= oldest then
    return
  end
  local fields = {}
  for slice = spent.first, math.min(oldest - 1, spent.first + 500) do
    fields[#fields + 1] = as_text(slice)
  end
  for _, text in ipairs(redis.call('HMGET', spent_key, unpack(fields))) do
    if text then
      local requests, tokens = slice_content(text)
      spent.requests = spent.requests - requests
      spent.tokens = spent.tokens - tokens
    end
  end
  redis.call('HDEL', spent_key, unpack(fields))
  spent.first, spent.is_changed = oldest, true
end

local function add_spent(at, requests, tokens)
  read_spent()
  local slice = slice_of(at)
  if spent.first and slice < spent.first then
    return
  end
  spent.first = spent.first or slice
  local field = as_text(slice)
  local had_requests, had_tokens = slice_content(redis.call('HGET', spent_key, field) or '0 0')
  redis.call('HSET', spent_key, field, as_text(had_requests + requests) .. ' ' .. as_text(had_tokens + tokens))
  spent.requests = spent.requests + requests
  spent.tokens = spent.tokens + tokens
  spent.is_changed = true
end

-- Milliseconds from one unit to the next at the pace of a limit; nil without a limit.
local function interval(limit)
  return limit and limit > 0 and (MINUTE + SLACK) / (limit * PACE) or nil
end

-- Milliseconds until the window has room for `more` of what a slice's content gives at `which` (1 requests, 2 tokens).
local function until_window(limit, used, more, which)
  if used + more <= limit or used <= 0 then
    return 0
  end
  for slice = spent.first, slice_of(now) do
    local text = redis.call('HGET', spent_key, as_text(slice))
    if text then
      used = used - select(which, slice_content(text))
      if used + more <= limit or used <= 0 then
        return math.max(1, (slice + 1) * SLICE + MINUTE + SLACK - now)
      end
    end
  end
  return MINUTE
end

-- Milliseconds until the pace allows another one.
local function until_pace(tat)
  return math.max(0, (tat or 0) - LEAD - now)
end

-- Milliseconds until one rate allows `more`, and whether it is the window that has to slide.
local function until_rate(limit, tat, used, more, which, in_front)
  if limit <= 0 then
    return 0, false
  end
  local pace = in_front and 0 or until_pace(tat)
  local window = until_window(in_front and limit or math.ceil(limit * PACE), used, more, which)
  return math.max(pace, window), window > pace
end

-- Milliseconds until a request of so many tokens may be granted, which rate it waits for, and whether for its window. `in_front`:
-- it need not keep the pace and may use the whole window.
local function rate_wait(tokens, in_front)
  local requests_limit, tokens_limit = limits.requests_per_minute or 0, limits.tokens_per_minute or 0
  if requests_limit <= 0 and tokens_limit <= 0 then
    return 0
  end
  slide()
  local for_requests, requests_slide = until_rate(requests_limit, state.requests_tat, spent.requests, 1, 1, in_front)
  local for_tokens, tokens_slide = until_rate(tokens_limit, state.tokens_tat, spent.tokens, tokens, 2, in_front)
  if for_tokens > for_requests then
    return for_tokens, 'tokens', tokens_slide
  end
  return for_requests, 'requests', requests_slide
end

-- No debt reaches further than a minute: the window holds what is beyond.
local function advance(field, limit, amount)
  local step = interval(limit)
  if step then
    state[field] = math.min(math.max(state[field] or 0, now) + amount * step, now + MINUTE)
  end
end

local function spend(lane, tokens)
  slide()
  add_spent(now, 1, tokens)
  if lane == 'query' then
    return
  end
  advance('requests_tat', limits.requests_per_minute, 1)
  advance('tokens_tat', limits.tokens_per_minute, tokens)
end

-- What a call really used replaces what was reserved when it was granted at `at`.
local function correct(at, requests, tokens)
  if requests == 0 and tokens == 0 then
    return
  end
  slide()
  add_spent(at, requests, tokens)
  for field, amount in pairs({requests_tat = requests, tokens_tat = tokens}) do
    local step = interval(field == 'requests_tat' and limits.requests_per_minute or limits.tokens_per_minute)
    if step and state[field] then
      state[field] = math.min(state[field] + amount * step, now + MINUTE)
    end
  end
end
