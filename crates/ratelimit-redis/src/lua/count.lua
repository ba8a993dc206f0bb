-- Counts the held slots of each concurrency limit. KEYS: the concurrency limits.
local at, counts = clock(), {}
for i, key in ipairs(KEYS) do counts[i] = occupied(key, at) end
return counts
