-- A stored bucket: units held, the moment in microseconds, units of one token, units earned in a microsecond.
-- All numbers stay below 2^53, where doubles are whole numbers.
local LAYOUT = '<i7I7I7I4'
local EXACT = 9007199254740992

-- What a bucket in units of `from` a token holds in units of `to`. Rounds against the caller.
local function convert(level, from, to, cap)
  local size, limit = math.abs(level), cap
  if level < 0 then limit = -cap end
  local tokens = math.floor(size / from)
  if tokens >= cap / to then return limit end
  local part = math.fmod(size, from) * to
  if level < 0 then
    if part < EXACT then part = math.ceil(part / from)
    else part = math.ceil(math.fmod(size, from) / from * to * (1 + 2^-50)) end
    return -(tokens * to + part)
  end
  if part < EXACT then part = math.floor(part / from)
  else part = math.floor(math.fmod(size, from) / from * to * (1 - 2^-50)) end
  return tokens * to + part
end

-- What a bucket holds `now`, and the moment that stands for: a clock that went backward earns nothing, and nothing
-- is earned twice. What was earned before a change of the rate was earned at the old one.
local function settle(value, refill, unit, cap, now)
  if not value then return cap, now end
  local level, at, had, earns = struct.unpack(LAYOUT, value)
  local elapsed = now - at
  if elapsed > 0 then
    at = now
    -- A debt is paid off first, so that what is added to it is never too large to be exact.
    if level < 0 then
      local steps = math.min(elapsed, math.floor(-level / earns))
      level, elapsed = level + steps * earns, elapsed - steps
      if level < 0 and elapsed > 0 then level, elapsed = level + earns, elapsed - 1 end
    end
    level = math.min(EXACT, level + elapsed * earns)
  end
  if had ~= unit then level = convert(level, had, unit, cap) end
  if level > cap then level = cap elseif level < -cap then level = -cap end
  return level, at
end

-- Writes a bucket that disappears once it is certainly full: a missing bucket is a full one.
local function keep(key, level, at, refill, unit, cap, now, slack)
  local full = math.ceil(((cap - level) / refill + (at - now)) / 1000)
  redis.call('SET', key, struct.pack(LAYOUT, level, at, unit, refill), 'PX', full + slack)
end

