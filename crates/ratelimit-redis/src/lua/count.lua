-- How many calls hold a slot. KEYS: the bounds.
local at, counts = now(), {}
for i, key in ipairs(KEYS) do counts[i] = count(key, at) end
return counts
