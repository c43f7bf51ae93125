-- How many messages are queued or in hand, at one moment: between two commands one may be given back.
--
-- KEYS[1]  hash  embedq:unacked  what is in hand
-- ARGV[1]  a pattern of the queues' keys

local count = redis.call('HLEN', KEYS[1])
for _, queue in ipairs(redis.call('KEYS', ARGV[1])) do
    count = count + redis.call('LLEN', queue)
end
return count
