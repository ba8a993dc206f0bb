-- The heartbeat of a replica. Registers it, and returns the number of live replicas, the server's time, for how long
-- the present keys have been in use, and the blocks with their end times, in milliseconds. The script writes, so a
-- success also shows that the server accepts writes.
-- KEYS: the replicas; since when the keys are in use; the blocks. ARGV: this replica; after how many milliseconds
-- without a heartbeat a replica is removed; and after how many milliseconds without any replica the age of the keys is
-- forgotten, since other versions may have written meanwhile.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[2])
local since = tonumber(redis.call("MGET", KEYS[2])[1]) or now
if since == now then redis.call('SET', KEYS[2], now) end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
-- An access list without permission for blocks denies this command, and the heartbeat must still succeed.
local blocks = redis.pcall('ZRANGEBYSCORE', KEYS[3], now, '+inf', 'WITHSCORES')
if blocks.err then blocks = {} end
return {redis.call('ZCARD', KEYS[1]), now, now - since, blocks}
