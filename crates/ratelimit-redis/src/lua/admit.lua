-- Grants the largest number of calls, up to `want`, that every enforced bucket can pay.
-- KEYS: the buckets, then legacy keys. ARGV[1]: want, time, count of buckets, then a record for each bucket. ARGV[2]:
-- see `stored`.
local want, now, count, pos = unpacked('<I2i7I2', ARGV[1])
local slack
now, slack = moment(now)
local all, granted = weigh(want, count, 0, ARGV[1], pos, now)
-- Preallocated for four buckets, because a table that grows is copied.
local reply = {granted, now, nil, nil, nil, nil, nil, nil, nil, nil}
if not pay(all, granted, now, slack, reply) then reply[1] = 0 end
return reply
