-- Subtract a price from a balance without a task.
local request, space, account, opening, now, price = unpack(ARGV)

if remembered(request) then
  return {'done'}
end
local balances = book(space, account, opening, now)
if not charge(balances, account, price) then
  return {'overdrawn', redis.call('HGET', balances, account)}
end
remember(request, 'done')
return {'done'}
