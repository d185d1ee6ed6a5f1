-- Lease the tasks whose callbacks are due: they are due again when the lease ends, unless they are delivered before.
-- The end of the lease is also its fencing number: a later lease of the same task ends later.
local now, until_, limit = unpack(ARGV)

local claimed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('due'), '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('ZADD', key('due'), until_, id)
  redis.call('HSET', key('task', id), 'due', until_, 'mark', until_ .. ':' .. id)
  claimed[#claimed + 1] = redis.call('HMGET', key('task', id), 'document', 'due', 'refund', 'mark')
end
return claimed
