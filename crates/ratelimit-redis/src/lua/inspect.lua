-- Returns the server's INFO; empty where this user's access list denies it. KEYS[1] only routes the command to a server
-- of the cluster.
local said = {}
for _, section in ipairs({'server', 'memory'}) do
  local text = redis.pcall('INFO', section)
  if type(text) == 'string' then said[#said + 1] = text end
end
return table.concat(said, '\n')
