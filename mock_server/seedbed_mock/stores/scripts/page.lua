-- Return tasks with their numbers, newest first, without a walk over others.
local space, before, limit = unpack(ARGV)

local order = space == '' and key('order') or key('order', string.sub(space, 2))
local found = redis.call('ZREVRANGEBYSCORE', order, '(' .. before, '-inf', 'WITHSCORES', 'LIMIT', 0, limit)
local page = {}
for place = 1, #found, 2 do
  page[#page + 1] = {found[place + 1],
    redis.call('HMGET', key('task', found[place]), 'document', 'due', 'refund', 'mark')}
end
return page
