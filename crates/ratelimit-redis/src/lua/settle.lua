-- A stored bucket: level in units, time of that level in microseconds, units of one token, units earned in a
-- microsecond, units of a full bucket, and the time when it last held more than half of them. All numbers stay below
-- 2^53, where doubles are exact integers.
local LAYOUT, LENGTH = '<i7I7I7I4I7I7', 39
-- The layout under keys of layout 2, without the last two fields.
local FORMER_LAYOUT, FORMER_LENGTH = '<i7I7I7I4', 25
local EXACT = 9007199254740992
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local call, pack, unpacked = redis.call, struct.pack, struct.unpack

-- Whether times are the server's own, and by how many microseconds its clock was recently set back, as far as that is
-- known. A caller's time may be older than a time that an earlier request has stored.
local server_time, step = false, 0

-- Returns the time, and for how many milliseconds a full bucket is retained. `asked`: the caller's time if it is
-- positive; otherwise minus the known step back of the server's clock.
local function moment(asked)
  if asked > 0 then return asked, 3600000 end
  server_time, step = true, -asked
  local time = call('TIME')
  return time[1] * 1000000 + time[2], 1000
end

-- The level of a bucket whose size or units have changed: as many tokens are missing as before, rounded up, and at most
-- twice the new size. Rarely needed functions are defined where they are used, because each run of a script defines all
-- others.
local function resize(level, had, held, unit, cap)
  if had == unit then return cap - held + level end
  local missing = held - level
  -- An odd number above 2^53 was rounded, perhaps down.
  if missing > EXACT then missing = missing + 2 end
  -- The quotient alone can be rounded up to a whole token that `rest` contains again.
  local rest = math.fmod(missing, had)
  local tokens, size = floor((missing - rest) / had + 0.5), cap / unit
  if tokens >= 2 * size then return -cap end
  -- The part of a token that is missing besides the whole ones, in new units.
  local part = rest * unit
  if part < EXACT then part = ceil(part / had) else part = min(unit, ceil(rest / had * unit * (1 + 2^-50))) end
  -- Whole tokens are subtracted first: what is missing can be above 2^53, where the sum with `part` would be rounded.
  return (size - tokens) * unit - part
end

-- Returns the level `now`, the time of that level, the time when the bucket was last more than half full, and whether
-- it must be written even if it pays nothing. A time before the bucket's own earns nothing. If that time is the
-- server's, its clock was set back: the bucket uses the new time from now on, or it would earn nothing until the clock
-- has caught up. Tokens from before a change of the rate are earned at the old rate. A value that no gateway has
-- written is an empty bucket that fills from now on.
local function settle(value, refill, unit, cap, now)
  if not value then return cap, now, now, false end
  if #value ~= LENGTH then return 0, now, now, true end
  local level, at, had, earns, held, high = unpacked(LAYOUT, value)
  if had == 0 or held == 0 or (earns == 0) ~= (refill == 0) then return 0, now, now, true end
  local elapsed = now - at
  local set_back = elapsed < 0 and server_time
  if set_back then
    at, high, elapsed = now, now, max(0, elapsed + step)
  elseif elapsed > 0 then
    at = now
  end
  -- The bucket of a calendar period earns nothing: the next period has another key.
  if elapsed > 0 and earns > 0 then
    -- A debt is paid off first, so that the sum never becomes too large to be exact.
    if level < 0 then
      local steps = min(elapsed, floor(-level / earns))
      level, elapsed = level + steps * earns, elapsed - steps
      if level < 0 and elapsed > 0 then level, elapsed = level + earns, elapsed - 1 end
    end
    level = level + elapsed * earns
    if level > held then level = held end
  end
  if had ~= unit or held ~= cap then level, high = resize(level, had, held, unit, cap), at end
  if level > cap then level = cap elseif level < -cap then level = -cap end
  if 2 * level > cap then high = at end
  return level, at, high, set_back
end

-- For how many milliseconds a bucket is retained after its period: by the clocks of gateways, the period may not be
-- over yet.
local KEPT_AFTER_END = 86400000

-- Writes a bucket. The key expires once the bucket is certainly full, since a missing bucket is a full one. A bucket
-- that earns nothing is retained until its period ends at `ends`. `is_new`: the key was missing when it was read. A key
-- of another type reads as missing too; it is not overwritten, and the function returns false.
local function keep(key, is_new, level, at, high, refill, unit, cap, ends, now, slack)
  local kept
  if refill == 0 then kept = max(0, ceil((ends - now) / 1000)) + KEPT_AFTER_END
  else kept = ceil(((cap - level) / refill + (at - now)) / 1000) end
  local value = pack(LAYOUT, level, at, unit, refill, cap, high)
  if not is_new then
    call('SET', key, value, 'PX', string.format('%d', kept + slack))
    return true
  end
  local old = redis.pcall('SET', key, value, 'PX', string.format('%d', kept + slack), 'GET')
  return type(old) ~= 'table' or not old.err
end

-- Reads the stored buckets, which are the first `count` of KEYS. A missing bucket is searched under its legacy keys,
-- which follow the buckets and `others` more keys. ARGV[2] has one byte for each bucket: the number of its legacy keys,
-- plus 16 if the first of them counts for any rate, plus 32 if the key of the reference (ToolHive) follows them.
-- Refill, unit and capacity of the first bucket are in `spec` at `first`, those of the other buckets in steps of `size`
-- bytes.
local function stored(count, others, now, spec, first, size)
  if count + others == #KEYS then return call('MGET', unpack(KEYS, 1, count)) end

  -- The level that a key of layout 2 holds for a bucket. It does not store the size of its bucket, so the number of
  -- tokens is kept.
  local function left_by_former(value, refill, unit, cap, now, whatever_rate)
    if not value or #value ~= FORMER_LENGTH then return false end
    local level, at, had, earns = unpacked(FORMER_LAYOUT, value)
    if had == 0 or earns == 0 then return false end
    local held = cap
    if had ~= unit or earns ~= refill then
      held = cap / unit * had
      if not whatever_rate or held >= EXACT then return false end
    end
    return pack(LAYOUT, max(-held, min(held, level)), at, had, earns, held, now)
  end

  -- The level that the reference has stored for a bucket: a hash with the tokens and a time.
  local function left_by_reference(key, refill, unit, cap, now)
    local hash = redis.pcall('HMGET', key, 'tokens', 'last_refill')
    local tokens, at = tonumber(hash[1]), tonumber(hash[2])
    if not tokens or not at or at < 0 or at > EXACT then return false end
    local level = max(0, min(cap, floor(tokens * unit)))
    return pack(LAYOUT, level, floor(at), unit, refill, cap, now)
  end

  local values, from = call('MGET', unpack(KEYS)), count + others
  for i = 1, count do
    local keys = string.byte(ARGV[2], i)
    local former, whatever, reference = keys % 16, floor(keys / 16) % 2 == 1, keys >= 32
    if not values[i] then
      local refill, unit, cap = unpacked('<I4I7I7', spec, first + size * (i - 1))
      for n = 1, former do
        values[i] = values[i] or left_by_former(values[from + n], refill, unit, cap, now, whatever and n == 1)
      end
      if reference then
        values[i] = values[i] or left_by_reference(KEYS[from + former + 1], refill, unit, cap, now)
      end
    end
    from = from + former + (reference and 1 or 0)
  end
  return values
end

