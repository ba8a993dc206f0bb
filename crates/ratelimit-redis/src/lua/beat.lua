-- Notes that a replica lives, counts those that do, and tells the time in milliseconds. It writes, so it also tells whether
-- the server takes writes.
-- KEYS[1]: the replicas. ARGV: this one, and after how many milliseconds of silence one is gone.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[2])
return {redis.call('ZCARD', KEYS[1]), now}
