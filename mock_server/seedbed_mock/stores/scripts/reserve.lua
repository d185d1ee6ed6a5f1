-- Reserve numbers for the IDs of tasks, which no other server reserves: each is the time in milliseconds or later.
local now, number = unpack(ARGV)

local first = math.max(tonumber(redis.call('GET', key('ids')) or '0'), tonumber(now)) + 1
redis.call('SET', key('ids'), string.format('%d', first + number - 1))
return first
