-- Decides for how many calls the buckets can pay, and pays. A record in the spec has 33 bytes: refill, unit, capacity,
-- cost, enforced, and the end of the period.
local RECORD = 33

-- The first `count` of KEYS are buckets, then follow `others` keys of another kind and the legacy keys. Returns the
-- buckets and the largest number of calls, up to `want`, that every enforced bucket can pay.
local function weigh(want, count, others, spec, from, now)
  if count == 0 then return {}, want end
  -- Preallocated for the usual number of buckets, because a table that grows is copied.
  local all, granted, pos = {nil, nil, nil, nil}, want, from
  local values = stored(count, others, now, spec, from, RECORD)
  for i = 1, count do
    local refill, unit, cap, cost, enforced, ends
    refill, unit, cap, cost, enforced, ends, pos = unpacked('<I4I7I7I7BI7', spec, pos)
    local level, at, high, mend = settle(values[i], refill, unit, cap, now)
    local fit = want
    if level < cost then
      fit = 0
    elseif want > 1 and cost > 0 then
      fit = min(want, floor(level / cost))
    end
    if enforced == 1 and fit < granted then granted = fit end
    all[i] = {level, at, high, refill, unit, cap, cost, fit, mend, not values[i], ends}
  end
  return all, granted
end

-- Pays for `granted` calls. Appends to the reply, for each bucket, the new level and the number of paid calls. Writes
-- nothing when no call is granted, unless the clock was set back or a value is malformed. Returns false when a key
-- holds another type than a bucket; in that case no bucket is charged.
local function pay(all, granted, now, slack, reply)
  local from, broken = #reply, nil
  for i = 1, #all do
    local b = all[i]
    local paid, level, cost = granted, b[1], b[7]
    if b[8] < paid then paid = b[8] end
    if b[9] or paid > 0 and cost > 0 then
      level = level - paid * cost
      b[1] = level
      if not keep(KEYS[i], b[10], level, b[2], b[3], b[4], b[5], b[6], b[11], now, slack) then
        broken = broken or {}
        broken[i] = true
      end
    end
    reply[from + 2 * i - 1], reply[from + 2 * i] = level, paid
  end
  if not broken then return true end
  -- A value that no gateway has written counts as an empty bucket.
  for i, b in ipairs(all) do
    b[1] = broken[i] and 0 or b[1] + reply[from + 2 * i] * b[7]
    keep(KEYS[i], false, b[1], b[2], b[3], b[4], b[5], b[6], b[11], now, slack)
    reply[from + 2 * i - 1], reply[from + 2 * i] = b[1], 0
  end
  return false
end
