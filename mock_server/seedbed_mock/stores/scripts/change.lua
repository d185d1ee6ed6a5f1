-- Replace a task if nobody has changed it since it was read, which its mark shows; otherwise return it as it is.
local id, mark, request, ends, due, owed, document = unpack(ARGV)

local task = key('task', id)
local found = redis.call('HMGET', task, 'mark', 'space', 'account', 'refund', 'document', 'due')
if not found[1] then
  return {'gone'}
end
if found[1] == request then
  return {'changed'}
end
if found[1] ~= mark then
  return {'stale', found[5], found[6], found[4], found[1]}
end
if found[4] then
  owed = ''
end
redis.call('HSET', task, 'document', document, 'mark', request, 'ends', ends, 'due', due)
if owed ~= '' then
  redis.call('HSET', task, 'owed', owed)
else
  redis.call('HDEL', task, 'owed')
end
unschedule(id, found[2], found[3])
schedule(id, found[2], found[3], ends, due, owed)
return {'changed'}
