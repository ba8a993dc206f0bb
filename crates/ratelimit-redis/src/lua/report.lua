-- Reports which calls of a replica are in flight and which have ended. A call in flight whose lease expired takes its
-- slot again, even above the maximum: the call runs, so no other call may be admitted for it.
-- KEYS: the concurrency limits. ARGV[1]: lease. ARGV[1 + i]: the number of calls in flight, their names, and the names
-- of the calls that ended.
local at, lease = clock(), tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  local spec = ARGV[1 + i]
  local held = struct.unpack('<I4', spec)
  local ended = 5 + held * NAME
  stay(key, names(string.sub(spec, 1, ended - 1), 5), at, lease)
  leave(key, names(spec, ended))
end
return 1
