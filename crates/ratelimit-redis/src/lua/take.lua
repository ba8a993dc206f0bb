-- Takes tokens out of a bucket ahead of the calls that will spend them: what calls need, as far as it is there, and more
-- while the bucket is well filled. Writes nothing when it gives none, unless the clock was set back or a value is broken.
-- KEYS: the bucket, then former keys. ARGV[1]: least, need, want, parts, time, refill, unit, capacity. ARGV[2]: see `stored`.
local least, need, want, parts, now, refill, unit, cap = unpacked('<I7I7I7I4i7I4I7I7', ARGV[1])
local slack
now, slack = moment(now)
local values = stored(1, 0, now, ARGV[1], 33, 0)
local level, at, high, mend = settle(values[1], refill, unit, cap, now)
local held = max(0, floor(level / unit))
local taken = min(need, held)
-- What is left over of the last call's price would help nobody here.
if taken < need and least > 1 then taken = taken - math.fmod(taken, least) end
taken = max(taken, min(want, floor(held / parts)))
if held < least then taken = 0 end
if taken > 0 or mend then
  level = level - taken * unit
  keep(KEYS[1], false, level, at, high, refill, unit, cap, 0, now, slack)
end
return {taken, level, now}
