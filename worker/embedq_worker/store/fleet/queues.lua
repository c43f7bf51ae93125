-- The length of each queue, and what the header of its oldest message says: when it was enqueued, and how many items it has. No
-- other message is looked at, and of this one the ends alone, where the headers are: a body may have a megabyte.
--
-- KEYS[…]  list  the queues
--
-- Returns the server's time in seconds; then for each queue its length, and the two numbers of its oldest message, each
-- the empty text where the message does not say it. A length of -1: the key is no list, and others must be told all the same.
-- More than three digits are no number of items: a message has 256 at most, and whoever reads the reply must not stumble.
-- A message is never parsed here. A body cannot be taken for a header: it is base64, or its quotes are escaped.

local ENDS = 8192  -- bytes

local function after(part, name, pattern)
  local _, at = string.find(part, name, 1, true)
  return at and string.match(part, pattern, at + 1)
end

local function said(message, name, pattern)
  return after(string.sub(message, -ENDS), name, pattern) or after(string.sub(message, 1, ENDS), name, pattern) or ''
end

local time = redis.call('TIME')
local reply = {tostring(time[1] + time[2] / 1000000)}
for _, queue in ipairs(KEYS) do
  local oldest = redis.pcall('LINDEX', queue, -1) or ''
  local is_list = type(oldest) == 'string'
  if not is_list and not string.find(oldest.err, 'WRONGTYPE', 1, true) then
    return oldest
  end
  oldest = is_list and oldest or ''
  reply[#reply + 1] = is_list and redis.call('LLEN', queue) or -1
  reply[#reply + 1] = said(oldest, '"embedq_enqueued_at":', '^%s*(%d+%.?%d*)')
  reply[#reply + 1] = said(oldest, '"kwargsrepr":', '^%s*"{\'job\': <(%d%d?%d?) items')
end
return reply
