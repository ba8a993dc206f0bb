-- A bound on calls in flight: the names of the calls, by the millisecond in which their leases end. Who is past that is gone.

local NAME = 16

-- The time in milliseconds.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- How many calls hold a slot.
local function occupied(key, now)
  return redis.call('ZCOUNT', key, '(' .. now, '+inf')
end

-- Names that stand side by side in a string, from a place to its end.
local function names(text, from)
  local all = {}
  for pos = from, #text, NAME do all[#all + 1] = string.sub(text, pos, pos + NAME - 1) end
  return all
end

-- Takes calls off a bound.
local function leave(key, calls)
  if #calls > 0 then redis.call('ZREM', key, unpack(calls)) end
end

-- Puts calls under a bound for a lease. The bound goes when the last lease of any replica is over: leases may differ.
local function stay(key, calls, now, lease)
  if #calls == 0 then return end
  local flat = {}
  for i, call in ipairs(calls) do flat[2 * i - 1], flat[2 * i] = now + lease, call end
  redis.call('ZADD', key, unpack(flat))
  if redis.call('PTTL', key) < lease + 1000 then redis.call('PEXPIRE', key, lease + 1000) end
end

