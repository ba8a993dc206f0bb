-- Charges calls more, or refunds what they have paid. Levels stay between minus capacity and capacity.
-- KEYS: the buckets, then legacy keys. ARGV[1]: time, count of buckets, then for each bucket: refill, unit, capacity,
-- change, further change, the amount paid and its time, the end of the period. No change is larger than the capacity,
-- so every sum is exact: two changes lead from full to the deepest debt. A missing bucket is full and is written only
-- when it is charged. ARGV[2]: see `stored`.
local now, count, pos = unpacked('<i7I2', ARGV[1])
local spec, slack = ARGV[1]
now, slack = moment(now)
local values = stored(count, 0, now, spec, pos, 53)
for i = 1, count do
  local refill, unit, cap, change, further, paid, paid_at, ends
  refill, unit, cap, change, further, paid, paid_at, ends, pos = unpacked('<I4I7I7i7i7I7I7I7', spec, pos)
  if values[i] or change < 0 then
    local level, at, high = settle(values[i], refill, unit, cap, now)
    if change > 0 then
      -- A refund is at most what the bucket would hold in addition if the call had never paid. Since the payment the
      -- bucket held at most what was left plus what it earned since. It held no more than half of its capacity, if it
      -- was last above that half before the payment.
      local most = paid - max(0, at - paid_at) * refill
      if paid_at > high then most = max(most, cap - floor(cap / 2)) end
      change, further = max(0, min(change + further, most)), 0
    end
    level = max(-cap, min(cap, level + change + further))
    keep(KEYS[i], false, level, at, high, refill, unit, cap, ends, now, slack)
  end
end
return 1
