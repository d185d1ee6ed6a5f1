-- Charge the price and add a task, both or neither: name, rate limit, balance, task, times and retention.
local id, request, space, account, opening, price, now, ends, due, owed, document, requests, length = unpack(ARGV)

local mark = redis.call('HGET', key('task', id), 'mark')
if mark then
  local created_by = redis.call('HGET', key('task', id), 'request')
  return {created_by == request and 'created' or 'taken'}
end
local window = key('creations', space, account)
if requests ~= '' and not has_room(window, now, requests, length) then
  return {'limited'}
end
local balances = book(space, account, opening, now)
if not charge(balances, account, price) then
  return {'overdrawn', redis.call('HGET', balances, account)}
end
local number = redis.call('INCR', key('number'))
redis.call('HSET', key('task', id), 'document', document, 'mark', request, 'request', request, 'space', space,
  'account', account, 'ends', ends, 'due', due)
if owed ~= '' then
  redis.call('HSET', key('task', id), 'owed', owed)
end
redis.call('ZADD', key('order'), number, id)
redis.call('ZADD', key('order', space), number, id)
schedule(id, space, account, ends, due, owed)
if requests ~= '' then
  count_call(window, now, length, id)
end
delete_excess(now)
return {'created'}
