-- How many calls hold a slot. KEYS: the bounds.
local at, counts = clock(), {}
for i, key in ipairs(KEYS) do counts[i] = occupied(key, at) end
return counts
