-- Whose turn it is: lanes by weight, collections of a lane in fair shares of tokens, processes of a collection in turn.
--
-- A flow is one lane of one collection; a claim is what one process wants for a flow: so many calls, so many tokens each.
--
-- <stem>:wants                        hash  "<lane> <collection> <process>" → "calls tokens"
-- <stem>:claims:<lane>:<collection>   zset  process → calls it was granted, from where the least stood when it came
-- <stem>:services:<lane>:<collection> hash  process → by how many calls it was ahead when its claim was met while others waited
-- <stem>:turns:<lane>                 zset  collection with claims → tokens it was granted (start tag of fair queueing)
-- <stem>:tags                         hash  "<lane> <collection>" → tag of a flow without claims that is ahead of its lane
--
-- served_<lane> is the tag last served: a flow that comes back starts there, so that it gets no credit for its absence.
-- Lanes: query before live before bulk, but of the calls of all lanes bulk gets one in 20 at least, and live one in five of what it
-- shares with query. Credits count the share not had; a lane that gets more by itself never goes before another.

local LANES = {'query', 'live', 'bulk'}
local BULK_SHARE = 0.05
local LIVE_SHARE = 0.2
local OUT_OF_TURN = 2  -- calls by which the asking process may be ahead of another, to save handing a slot over

local SERVICES_LIFE = 60 * 1000
local TAGS_LIFE = 3600 * 1000
local wants_key, tags_key = stem .. ':wants', stem .. ':tags'

local function turns_key(lane)
  return stem .. ':turns:' .. lane
end

local function claims_key(lane, collection)
  return stem .. ':claims:' .. lane .. ':' .. collection
end

local function services_key(lane, collection)
  return stem .. ':services:' .. lane .. ':' .. collection
end

local function served(lane)
  return state['served_' .. lane] or 0
end

local function drop_flow(lane, collection)
  local turns = turns_key(lane)
  local tag = tonumber(redis.call('ZSCORE', turns, collection))
  redis.call('ZREM', turns, collection)
  redis.call('DEL', services_key(lane, collection))
  if tag and tag > served(lane) then
    redis.call('HSET', tags_key, lane .. ' ' .. collection, as_text(tag))
    redis.call('PEXPIRE', tags_key, TAGS_LIFE, 'NX')
  else
    redis.call('HDEL', tags_key, lane .. ' ' .. collection)
  end
end

local function drop_claim(lane, collection, who)
  local claims = claims_key(lane, collection)
  redis.call('HDEL', wants_key, lane .. ' ' .. collection .. ' ' .. who)
  redis.call('ZREM', claims, who)
  if redis.call('EXISTS', claims) == 0 then
    drop_flow(lane, collection)
  end
end

local function enter_flow(lane, collection)
  local turns = turns_key(lane)
  if not redis.call('ZSCORE', turns, collection) then
    local tag = tonumber(redis.call('HGET', tags_key, lane .. ' ' .. collection) or 0)
    redis.call('ZADD', turns, as_text(math.max(tag, served(lane))), collection)
  end
end

-- A process that was here a moment ago comes back where it stood, or it would always be before one that has been waiting.
local function enter_claims(lane, collection)
  local claims, services = claims_key(lane, collection), services_key(lane, collection)
  local least = redis.call('ZRANGE', claims, 0, 0, 'WITHSCORES')
  local ahead = redis.call('HGET', services, process) or 0
  redis.call('ZADD', claims, tonumber(least[2] or 0) + tonumber(ahead), process)
  redis.call('HDEL', services, process)
end

-- Its claim is met: remember by how much it is ahead of those that still wait.
local function leave_claims(lane, collection, who)
  local claims, services = claims_key(lane, collection), services_key(lane, collection)
  local own = tonumber(redis.call('ZSCORE', claims, who))
  drop_claim(lane, collection, who)
  local least = redis.call('ZRANGE', claims, 0, 0, 'WITHSCORES')
  if least[2] and own > tonumber(least[2]) then
    redis.call('HSET', services, who, own - tonumber(least[2]))
    redis.call('PEXPIRE', services, SERVICES_LIFE, 'NX')
  end
end

local function claim(lane, collection, calls, tokens)
  if calls < 1 then
    drop_claim(lane, collection, process)
    return
  end
  local claims = claims_key(lane, collection)
  redis.call('HSET', wants_key, lane .. ' ' .. collection .. ' ' .. process, string.format('%d %d', calls, math.max(0, tokens)))
  if not redis.call('ZSCORE', claims, process) then
    enter_claims(lane, collection)
  end
  enter_flow(lane, collection)
end

local function claim_all(wants)
  for _, want in ipairs(wants or {}) do
    claim(want[1], want[2], want[3], want[4])
  end
end

-- Lanes in the order of their turns, and how many of them are in front because they are owed a call.
local function ordered_lanes()
  local order, owed = {}, 0
  for _, lane in ipairs({'bulk', 'live'}) do
    if (state[lane .. '_credit'] or 0) >= 1 then
      owed = owed + 1
      order[owed] = lane
    end
  end
  for _, lane in ipairs(LANES) do
    order[#order + 1] = lane
  end
  return order, owed
end

local function note_lane(lane)
  state.bulk_credit = clamp((state.bulk_credit or 0) + BULK_SHARE - (lane == 'bulk' and 1 or 0), -1, 1)
  if lane ~= 'bulk' then
    state.live_credit = clamp((state.live_credit or 0) + LIVE_SHARE - (lane == 'live' and 1 or 0), -1, 1)
  end
end

-- The process of a flow whose turn it is: the asking one where that is nearly fair, as a slot handed over is idle for longer.
local function next_process(lane, collection)
  local claims = claims_key(lane, collection)
  while true do
    local least = redis.call('ZRANGE', claims, 0, 0, 'WITHSCORES')
    if not least[1] then
      return nil
    end
    local own = tonumber(redis.call('ZSCORE', claims, process))
    if own and own <= least[2] + OUT_OF_TURN then
      return process
    end
    if is_alive(least[1]) then
      return least[1]
    end
    drop_claim(lane, collection, least[1])
  end
end

local function next_of_lane(lane)
  while true do
    local first = redis.call('ZRANGE', turns_key(lane), 0, 0, 'WITHSCORES')
    if not first[1] then
      return nil
    end
    local who = next_process(lane, first[1])
    local wanted = who and redis.call('HGET', wants_key, lane .. ' ' .. first[1] .. ' ' .. who)
    local calls, tokens = string.match(wanted or '', '^(%d+) (%d+)$')
    if calls then
      return {
        lane = lane, collection = first[1], process = who, tag = tonumber(first[2]), calls = tonumber(calls),
        tokens = tonumber(tokens),
      }
    end
    if who then
      drop_claim(lane, first[1], who)
    else
      drop_flow(lane, first[1])
    end
  end
end

local function next_claim()
  local order, owed = ordered_lanes()
  for number, lane in ipairs(order) do
    local found = next_of_lane(lane)
    if found then
      found.is_owed = number <= owed
      return found
    end
  end
  return nil
end

-- One call of a claim is granted: it goes behind the others by what it takes.
local function take_turn(found)
  local lane, collection, who = found.lane, found.collection, found.process
  state['served_' .. lane] = found.tag
  note_lane(lane)
  redis.call('ZADD', turns_key(lane), as_text(found.tag + math.max(1, found.tokens)), collection)
  redis.call('ZINCRBY', claims_key(lane, collection), 1, who)
  if found.calls > 1 then
    local field = lane .. ' ' .. collection .. ' ' .. who
    redis.call('HSET', wants_key, field, string.format('%d %d', found.calls - 1, found.tokens))
  else
    leave_claims(lane, collection, who)
  end
end

-- A call has used more or less of a collection's share than its grant took.
local function adjust(lane, collection, tokens)
  local turns, field = turns_key(lane), lane .. ' ' .. collection
  if tokens == 0 then
    return
  end
  if redis.call('ZSCORE', turns, collection) then
    redis.call('ZINCRBY', turns, as_text(tokens), collection)
  else
    local tag = math.max(tonumber(redis.call('HGET', tags_key, field) or 0), served(lane)) + tokens
    redis.call('HSET', tags_key, field, as_text(tag))
    redis.call('PEXPIRE', tags_key, TAGS_LIFE, 'NX')
  end
end
