-- Notes that a replica lives, counts those that do, and tells the time and since when buckets are kept under their present
-- keys, in milliseconds. It writes, so it also tells whether the server takes writes.
-- KEYS: the replicas; since when keys are as they are. ARGV: this replica, after how many milliseconds of silence one is gone,
-- and after how many without any replica nobody knows any more what was written meanwhile.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[2])
local since = tonumber(redis.call("MGET", KEYS[2])[1]) or now
if since == now then redis.call('SET', KEYS[2], now) end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {redis.call('ZCARD', KEYS[1]), now, now - since}
