-- Open, read or advance the clock of the fleet: what it showed at a moment of Redis, and its speed. Times are Unix
-- milliseconds.
local what, request, value = unpack(ARGV)

local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local clock = key('clock')
local wall, shown, speed = unpack(redis.call('HMGET', clock, 'wall', 'shown', 'speed'))
if not wall or what == 'restart' then
  -- A clock that another run of the fleet has advanced does not go back.
  local continued = wall and shown + math.max(now - wall, 0) * speed or now
  wall, shown, speed = now, math.max(continued, now), value
  redis.call('HSET', clock, 'wall', string.format('%.3f', wall), 'shown', string.format('%.3f', shown), 'speed', speed)
elseif what == 'advance' and not remembered(request) then
  shown = redis.call('HINCRBYFLOAT', clock, 'shown', value)
  remember(request, 'done')
end
return {string.format('%.3f', shown + math.max(now - wall, 0) * speed), tostring(speed)}
