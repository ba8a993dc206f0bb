-- Hears which calls of a replica are in flight, and which have ended. A call in flight that had lost its slot has one again,
-- whether there is room or not: it runs, so nobody else is to be admitted in its place.
-- KEYS: the bounds. ARGV[1]: lease. ARGV[1 + i]: how many calls are in flight, their names, and the names of those that ended.
local at, lease = clock(), tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  local spec = ARGV[1 + i]
  local held = struct.unpack('<I4', spec)
  local ended = 5 + held * NAME
  stay(key, names(string.sub(spec, 1, ended - 1), 5), at, lease)
  leave(key, names(spec, ended))
end
return 1
