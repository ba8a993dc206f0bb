-- Takes a slot for one call under every bound that has room, or under none if an enforced one has none. A call that is
-- there already is not counted against itself.
-- KEYS: the bounds. ARGV[1]: lease, name, then bound and enforced of each. ARGV[1 + i]: calls that have ended.
local spec, at = ARGV[1], now()
local lease, call, pos = struct.unpack('<I4c16', spec)
local reply, fits, admitted = {1}, {}, true
for i, key in ipairs(KEYS) do
  leave(key, names(ARGV[1 + i], 1))
  local most, enforced
  most, enforced, pos = struct.unpack('<I4B', spec, pos)
  local others, own = count(key, at), redis.call('ZSCORE', key, call)
  if own and tonumber(own) > at then others = others - 1 end
  fits[i] = others < most
  if enforced == 1 and not fits[i] then admitted = false end
  reply[2 * i] = others
end
if not admitted then reply[1] = 0 end
for i, key in ipairs(KEYS) do
  local holds = admitted and fits[i]
  if holds then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', at)
    stay(key, {call}, at, lease)
  end
  reply[2 * i + 1] = holds and 1 or 0
end
return reply
