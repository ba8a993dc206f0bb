-- Charges calls more, or gives back what they have paid; buckets stay between minus capacity and capacity.
-- KEYS: the buckets, then former keys. ARGV[1]: time, count of buckets, then refill, unit, capacity, change, further change,
-- what was paid and when, and the end of the period of each. No change is larger than the capacity, so that every sum is exact: from full to the deepest
-- debt takes two. A bucket that is not there is full, and is only written when it is charged. ARGV[2]: see `stored`.
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
      -- No more than the bucket would hold in addition if the call had never paid. Since then it held no more than was left
      -- and earned; and no more than half of its capacity, if it was last above that before.
      local most = paid - max(0, at - paid_at) * refill
      if paid_at > high then most = max(most, cap - floor(cap / 2)) end
      change, further = max(0, min(change + further, most)), 0
    end
    level = max(-cap, min(cap, level + change + further))
    keep(KEYS[i], false, level, at, high, refill, unit, cap, ends, now, slack)
  end
end
return 1
