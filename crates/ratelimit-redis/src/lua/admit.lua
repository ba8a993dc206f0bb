-- Grants the largest number of calls up to `want` that every enforced bucket can pay. Writes nothing when it grants none,
-- unless the clock was set back or a value is broken.
-- KEYS: the buckets. ARGV[1]: want, time (0: the server's), then refill, unit, capacity, cost and enforced of each.
local spec, all = ARGV[1], {}
local want, now, pos = struct.unpack('<I2I7', spec)
local slack
now, slack = moment(now)
local values = redis.call('MGET', unpack(KEYS))
local granted = want
for i = 1, #KEYS do
  local b = {struct.unpack('<I4I7I7I7B', spec, pos)}
  pos = b[6]
  local level, at, mend = settle(values[i], b[1], b[2], b[3], now)
  local fit = want
  if level < b[4] then
    fit = 0
  elseif b[4] > 0 then
    fit = math.min(want, math.floor(level / b[4]))
  end
  if b[5] == 1 and fit < granted then granted = fit end
  b[6], b[7], b[8], b[9] = level, at, fit, mend
  all[i] = b
end
local reply = {granted, now}
for i = 1, #KEYS do
  local b = all[i]
  local paid = math.min(granted, b[8])
  if b[9] or paid > 0 and b[4] > 0 then
    b[6] = b[6] - paid * b[4]
    keep(KEYS[i], b[6], b[7], b[1], b[2], b[3], now, slack)
  end
  reply[2 * i + 1], reply[2 * i + 2] = b[6], paid
end
return reply
