-- Add units to a balance, or subtract them, if the new balance is in its range.
local request, space, account, opening, now, units = unpack(ARGV)

local before = remembered(request)
if before then
  return {'done', before}
end
local balances = book(space, account, opening, now)
local old = redis.call('HGET', balances, account)
if redis.call('HINCRBY', balances, account, units) < 0 or is_less(MOST_UNITS, redis.call('HGET', balances, account)) then
  redis.call('HSET', balances, account, old)
  return {'refused', old}
end
return {'done', remember(request, redis.call('HGET', balances, account))}
