-- Takes a slot for one call in every concurrency limit with a free slot and pays its buckets. Takes and pays nothing if
-- an enforced concurrency limit has no free slot or an enforced bucket cannot pay. A slot that the call already holds
-- does not count against it.
-- KEYS: the buckets, the concurrency limits, then legacy keys. ARGV[1]: time, count of buckets, count of concurrency
-- limits, lease, name of the call, a record for each bucket, then maximum and enforced of each concurrency limit.
-- ARGV[2]: see `stored`. ARGV[2 + i]: calls that have ended.
local spec = ARGV[1]
local now, count, bounds, lease, call, pos = unpacked('<i7I2I2I4c16', spec)
local slack
now, slack = moment(now)
local at = math.floor(now / 1000)
local all, granted = weigh(1, count, bounds, spec, pos, now)
pos = pos + RECORD * count
local reply, admitted, fits, others = {0, granted, now}, granted == 1, {}, {}
for i = 1, bounds do
  local key = KEYS[count + i]
  leave(key, names(ARGV[2 + i], 1))
  local most, enforced
  most, enforced, pos = unpacked('<I4B', spec, pos)
  local held, own = occupied(key, at), redis.call('ZSCORE', key, call)
  if own and tonumber(own) > at then held = held - 1 end
  fits[i], others[i] = held < most, held
  if enforced == 1 and not fits[i] then admitted = false end
end
if not pay(all, admitted and 1 or 0, now, slack, reply) then admitted, reply[2] = false, 0 end
if admitted then reply[1] = 1 end
local from = #reply
for i = 1, bounds do
  local key, holds = KEYS[count + i], admitted and fits[i]
  if holds then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', at)
    stay(key, {call}, at, lease)
  end
  reply[from + 2 * i - 1], reply[from + 2 * i] = others[i], holds and 1 or 0
end
return reply
