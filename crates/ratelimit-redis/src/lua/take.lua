-- Leases tokens of a bucket to a replica before calls spend them: what waiting calls need, as far as available, and
-- more while the bucket is well filled. Writes nothing when nothing is leased, unless the clock was set back or a value
-- is malformed.
-- KEYS: the bucket, then legacy keys. ARGV[1]: least, need, want, parts, time, refill, unit, capacity. ARGV[2]: see
-- `stored`.
local least, need, want, parts, now, refill, unit, cap = unpacked('<I7I7I7I4i7I4I7I7', ARGV[1])
local slack
now, slack = moment(now)
local values = stored(1, 0, now, ARGV[1], 33, 0)
local level, at, high, mend = settle(values[1], refill, unit, cap, now)
local held = max(0, floor(level / unit))
local taken = min(need, held)
-- A remainder smaller than the price of a call would be of no use to this replica.
if taken < need and least > 1 then taken = taken - math.fmod(taken, least) end
taken = max(taken, min(want, floor(held / parts)))
if held < least then taken = 0 end
if taken > 0 or mend then
  level = level - taken * unit
  keep(KEYS[1], false, level, at, high, refill, unit, cap, 0, now, slack)
end
return {taken, level, now}
