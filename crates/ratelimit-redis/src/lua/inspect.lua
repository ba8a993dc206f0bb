-- What the server says of itself; empty where this user may not ask. KEYS[1] only leads to the right server.
local said = {}
for _, section in ipairs({'server', 'memory'}) do
  local text = redis.pcall('INFO', section)
  if type(text) == 'string' then said[#said + 1] = text end
end
return table.concat(said, '\n')
