-- Grants the largest number of calls up to `want` that every enforced bucket can pay.
-- KEYS: the buckets, then former keys. ARGV[1]: want, time, count of buckets, then a record of each. ARGV[2]: see `stored`.
local want, now, count, pos = unpacked('<I2i7I2', ARGV[1])
local slack
now, slack = moment(now)
local all, granted = weigh(want, count, 0, ARGV[1], pos, now)
-- With room for four buckets: a table that grows is copied.
local reply = {granted, now, nil, nil, nil, nil, nil, nil, nil, nil}
if not pay(all, granted, now, slack, reply) then reply[1] = 0 end
return reply
