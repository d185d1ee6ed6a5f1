-- Delete the tasks and balances of a space or of all, or reset one balance, whose earlier payments are written off.
local what, space, account = unpack(ARGV)

local function batches(list, size)
  local from = 1
  return function()
    if from <= #list then
      from = from + size
      return {unpack(list, from - size, math.min(from - 1, #list))}
    end
  end
end

local function forget_account(name)
  redis.call('HDEL', key('balances', space), name)
  redis.call('UNLINK', key('refunds', space, name), key('creations', space, name), key('queries', space, name))
end

local function clear_journal()
  local size = redis.call('HGET', key('journals', 'bytes'), space)
  if size then
    redis.call('DECRBY', key('journals', 'total'), size)
    redis.call('HDEL', key('journals', 'bytes'), space)
    redis.call('ZREM', key('journals'), space)
    redis.call('UNLINK', key('journal', space))
  end
end

local function clear_space()
  clear_journal()
  for _, name in ipairs(redis.call('HKEYS', key('balances', space))) do
    forget_account(name)
  end
  local ids = redis.call('ZRANGE', key('order', space), 0, -1)
  for batch in batches(ids, 1000) do
    for _, name in ipairs({'order', 'due', 'ending', 'finished'}) do
      redis.call('ZREM', key(name), unpack(batch))
    end
    for place, id in ipairs(batch) do
      batch[place] = key('task', id)
    end
    redis.call('UNLINK', unpack(batch))
  end
  redis.call('UNLINK', key('order', space), key('counts', space))
  redis.call('SREM', key('spaces'), space)
  redis.call('ZREM', key('used'), space)
end

if what == 'all' then
  for _, name in ipairs(redis.call('SMEMBERS', key('spaces'))) do
    space = name
    clear_space()
  end
  for _, name in ipairs(redis.call('ZRANGE', key('journals'), 0, -1)) do
    space = name
    clear_journal()
  end
  redis.call('UNLINK', key('used'))
elseif what == 'space' then
  clear_space()
elseif what == 'forgotten' then
  forget_account(account)
else
  redis.call('HDEL', key('balances', space), account)
  redis.call('UNLINK', key('refunds', space, account))
  for _, id in ipairs(redis.call('ZRANGE', key('order', space), 0, -1)) do
    local owner, refund = unpack(redis.call('HMGET', key('task', id), 'account', 'refund'))
    if owner == account then
      redis.call('HSET', key('task', id), 'refund', refund == 'booked' and 'both' or refund or 'written off')
      redis.call('HDEL', key('task', id), 'owed')
    end
  end
end
return 'done'
