-- Add entries to the capped journals of their spaces, with numbers in the order of all.
-- Arguments: a request, then the name of a space and an entry in turn. Returns the spaces that give way to newer ones.
local request = ARGV[1]

local journals, sizes = key('journals'), key('journals', 'bytes')

local function change_size(space, bytes)
  redis.call('HINCRBY', sizes, space, bytes)
  return redis.call('INCRBY', key('journals', 'total'), bytes)
end

local function drop_oldest(space)
  local stream = key('journal', space)
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if oldest then
    redis.call('XDEL', stream, oldest[1])
    return change_size(space, -#oldest[2][2])
  end
  -- The space was reset in part; its journal is empty.
  local left = redis.call('HGET', sizes, space) or '0'
  redis.call('UNLINK', stream)
  redis.call('HDEL', sizes, space)
  redis.call('ZREM', journals, space)
  return redis.call('DECRBY', key('journals', 'total'), left)
end

if remembered(request) then
  return {}
end
for place = 2, #ARGV, 2 do
  local space, entry = ARGV[place], ARGV[place + 1]
  local number = redis.call('INCR', key('journals', 'number'))
  redis.call('XADD', key('journal', space), number .. '-0', 'entry', entry)
  redis.call('ZADD', journals, number, space)
  if space ~= 'default' then
    redis.call('ZADD', key('used'), number, space)
  end
  local total = change_size(space, #entry)
  if redis.call('XLEN', key('journal', space)) > MOST_ENTRIES then
    total = drop_oldest(space)
  end
  -- The journal that was not written to for the longest time gives way.
  while total > MOST_BYTES do
    total = drop_oldest(redis.call('ZRANGE', journals, 0, 0)[1])
  end
end
remember(request, 'done')
local excess = redis.call('ZCARD', key('used')) - MOST_SPACES
return excess > 0 and redis.call('ZRANGE', key('used'), 0, excess - 1) or {}
