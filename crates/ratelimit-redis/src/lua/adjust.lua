-- Adds to buckets or takes from them, between minus capacity and capacity.
-- KEYS: the buckets. ARGV[1]: time (0: the server's), then refill, unit, capacity, change, further change and create of
-- each. No change is larger than the capacity, so that every sum is exact: from full to the deepest debt takes two. A
-- bucket that is not there is full: it is only written where `create` says so.
local spec = ARGV[1]
local now, pos = struct.unpack('<I7', spec)
local slack
now, slack = moment(now)
local values = redis.call('MGET', unpack(KEYS))
for i = 1, #KEYS do
  local refill, unit, cap, change, further, create
  refill, unit, cap, change, further, create, pos = struct.unpack('<I4I7I7i7i7B', spec, pos)
  if values[i] or create == 1 then
    local level, at = settle(values[i], refill, unit, cap, now)
    level = math.max(-cap, math.min(cap, level + change + further))
    keep(KEYS[i], level, at, refill, unit, cap, now, slack)
  end
end
return 1
