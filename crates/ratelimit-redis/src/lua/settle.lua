-- A stored bucket: units held, the moment in microseconds, units of one token, units earned in a microsecond.
-- All numbers stay below 2^53, where doubles are whole numbers.
local LAYOUT, LENGTH = '<i7I7I7I4', 25
local EXACT = 9007199254740992

-- Whether times are the server's own. A caller's time may be older than one that was there before it.
local server_time = false

-- The time, and for how many milliseconds a full bucket is kept. `asked`: 0 for the server's time.
local function moment(asked)
  if asked > 0 then return asked, 3600000 end
  server_time = true
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2], 1000
end

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

-- What a bucket holds `now`, the moment of that level, and whether the bucket must be written although it pays nothing.
-- A time before the bucket's own earns nothing. If it is the server's, its clock was set back: the bucket goes by the
-- new time from here on, or it would earn nothing until the clock has caught up. What was earned before a change of the
-- rate was earned at the old one. What no gateway has written is an empty bucket, and fills from now on.
local function settle(value, refill, unit, cap, now)
  if not value then return cap, now, false end
  if #value ~= LENGTH then return 0, now, true end
  local level, at, had, earns = struct.unpack(LAYOUT, value)
  if had == 0 or earns == 0 then return 0, now, true end
  local elapsed = now - at
  local set_back = elapsed < 0 and server_time
  if set_back then at = now end
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
  return level, at, set_back
end

-- Writes a bucket that disappears once it is certainly full: a missing bucket is a full one.
local function keep(key, level, at, refill, unit, cap, now, slack)
  local full = math.ceil(((cap - level) / refill + (at - now)) / 1000)
  redis.call('SET', key, struct.pack(LAYOUT, level, at, unit, refill), 'PX', full + slack)
end

