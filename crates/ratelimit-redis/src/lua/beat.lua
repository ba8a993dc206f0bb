-- Notes that a replica lives, counts those that do, and tells the time, since when buckets are kept under their present
-- keys, and which blocks there are with the moments when they end, in milliseconds. It writes, so it also tells whether the server takes writes.
-- KEYS: the replicas; since when keys are as they are; the blocks. ARGV: this replica, after how many milliseconds of silence one is gone,
-- and after how many without any replica nobody knows any more what was written meanwhile.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[2])
local since = tonumber(redis.call("MGET", KEYS[2])[1]) or now
if since == now then redis.call('SET', KEYS[2], now) end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
-- A user of an access list that does without blocks may not ask for them.
local blocks = redis.pcall('ZRANGEBYSCORE', KEYS[3], now, '+inf', 'WITHSCORES')
if blocks.err then blocks = {} end
return {redis.call('ZCARD', KEYS[1]), now, now - since, blocks}
