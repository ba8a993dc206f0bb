-- A concurrency limit: a sorted set of call names, scored by the millisecond at which their leases expire. A call whose
-- lease has expired does not count.

local NAME = 16

-- The server's time in milliseconds.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Counts the held slots.
local function occupied(key, now)
  return redis.call('ZCOUNT', key, '(' .. now, '+inf')
end

-- Splits a string of concatenated call names, from an index to its end.
local function names(text, from)
  local all = {}
  for pos = from, #text, NAME do all[#all + 1] = string.sub(text, pos, pos + NAME - 1) end
  return all
end

-- Releases the slots of calls.
local function leave(key, calls)
  if #calls > 0 then redis.call('ZREM', key, unpack(calls)) end
end

-- Gives calls a slot for the duration of a lease. The key expires with the last lease of any replica, because replicas
-- may use different lease durations.
local function stay(key, calls, now, lease)
  if #calls == 0 then return end
  local flat = {}
  for i, call in ipairs(calls) do flat[2 * i - 1], flat[2 * i] = now + lease, call end
  redis.call('ZADD', key, unpack(flat))
  if redis.call('PTTL', key) < lease + 1000 then redis.call('PEXPIRE', key, lease + 1000) end
end

