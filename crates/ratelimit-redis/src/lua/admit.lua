-- Grants the largest number of calls up to `want` that every enforced bucket can pay. Writes nothing when it grants none,
-- unless the clock was set back or a value is broken.
-- KEYS: the buckets, then former keys. ARGV[1]: want, time, count of buckets, then refill, unit, capacity, cost and enforced
-- of each. ARGV[2]: see `stored`.
local want, now, count, pos = struct.unpack('<I2i7I2', ARGV[1])
local spec, slack = ARGV[1]
now, slack = moment(now)
local first, all, granted = pos, {}, want
local values = stored(count, now, function(i) return struct.unpack('<I4I7I7', spec, first + 26 * (i - 1)) end)
for i = 1, count do
  local b = {struct.unpack('<I4I7I7I7B', spec, pos)}
  pos = b[6]
  local level, at, high, mend = settle(values[i], b[1], b[2], b[3], now)
  local fit = want
  if level < b[4] then
    fit = 0
  elseif b[4] > 0 then
    fit = math.min(want, math.floor(level / b[4]))
  end
  if b[5] == 1 and fit < granted then granted = fit end
  b[6], b[7], b[8], b[9], b[10] = level, at, high, fit, mend
  all[i] = b
end
local reply, broken = {granted, now}, {}
for i = 1, count do
  local b = all[i]
  local paid = math.min(granted, b[9])
  if b[10] or paid > 0 and b[4] > 0 then
    b[6] = b[6] - paid * b[4]
    local write = values[i] and keep or keep_new
    if write(KEYS[i], b[6], b[7], b[8], b[1], b[2], b[3], now, slack) == false then broken[i] = true end
  end
  reply[2 * i + 1], reply[2 * i + 2] = b[6], paid
end
if next(broken) then
  -- What no gateway has written counts as an empty bucket: nobody pays.
  reply[1] = 0
  for i = 1, count do
    local b = all[i]
    b[6] = broken[i] and 0 or b[6] + reply[2 * i + 2] * b[4]
    keep(KEYS[i], b[6], b[7], b[8], b[1], b[2], b[3], now, slack)
    reply[2 * i + 1], reply[2 * i + 2] = b[6], 0
  end
end
return reply
