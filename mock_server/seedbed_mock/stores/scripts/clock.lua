-- Open, read, advance or mark the clock of the fleet: what it showed at a moment of Redis, its speed, and when the fleet
-- began or was reset. Times are Unix milliseconds.
local what, request, value = unpack(ARGV)

local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local clock = key('clock')
local wall, shown, speed, started = unpack(redis.call('HMGET', clock, 'wall', 'shown', 'speed', 'started'))
if not wall or what == 'restart' then
  -- A clock that another run of the fleet has advanced does not go back.
  local continued = wall and shown + math.max(now - wall, 0) * speed or now
  wall, shown, speed = now, math.max(continued, now), value
  started = string.format('%.3f', shown)
  redis.call('HSET', clock, 'wall', string.format('%.3f', wall), 'shown', started, 'speed', speed, 'started', started)
elseif what == 'advance' and not remembered(request) then
  shown = redis.call('HINCRBYFLOAT', clock, 'shown', value)
  remember(request, 'done')
end
shown = string.format('%.3f', shown + math.max(now - wall, 0) * speed)
if what == 'mark' then
  started = shown
  redis.call('HSET', clock, 'started', started)
end
return {shown, tostring(speed), started}
