-- Functions that the scripts share. FLEET is what the names of all keys of the fleet begin with.
-- Amounts are whole numbers of units as text: Lua's numbers are exact only up to 2^53, and a balance can have 10^18.

local function key(...)
  return FLEET .. table.concat({...}, ':')
end

local function is_less(one, other)
  return #one < #other or (#one == #other and one < other)
end

-- Add units to a balance; what exceeds the largest balance is lost.
local function give_back(balances, account, units)
  redis.call('HINCRBY', balances, account, units)
  if is_less(MOST_UNITS, redis.call('HGET', balances, account)) then
    redis.call('HSET', balances, account, MOST_UNITS)
  end
end

-- Return the key of the balances of a space, after booking the refunds of an account that are due.
local function book(space, account, opening, now)
  local balances, refunds = key('balances', space), key('refunds', space, account)
  if redis.call('HSETNX', balances, account, opening) == 1 then
    redis.call('SADD', key('spaces'), space)
    return balances
  end
  local owed = redis.call('ZRANGEBYSCORE', refunds, '-inf', now)
  for _, id in ipairs(owed) do
    give_back(balances, account, redis.call('HGET', key('task', id), 'owed'))
    redis.call('HDEL', key('task', id), 'owed')
    redis.call('HSET', key('task', id), 'refund', 'booked')
  end
  if #owed > 0 then
    redis.call('ZREMRANGEBYSCORE', refunds, '-inf', now)
  end
  return balances
end

-- Subtract units from a balance, and return whether it covers them.
local function charge(balances, account, units)
  if is_less(redis.call('HGET', balances, account), units) then
    return false
  end
  if units ~= '0' then
    redis.call('HINCRBY', balances, account, '-' .. units)
  end
  return true
end

-- Note the times of a task: when its callback is due, when it ends without one, and when its price is refunded.
local function schedule(id, space, account, ends, due, owed)
  if due ~= '' then
    redis.call('ZADD', key('due'), due, id)
  elseif ends ~= '' then
    redis.call('ZADD', key('ending'), ends, id)
  end
  -- Without a balance, it was reset, or its account is gone.
  if ends ~= '' and owed ~= '' and redis.call('HEXISTS', key('balances', space), account) == 1 then
    redis.call('ZADD', key('refunds', space, account), ends, id)
  end
end

-- Forget the times of a task.
local function unschedule(id, space, account)
  redis.call('ZREM', key('due'), id)
  redis.call('ZREM', key('ending'), id)
  redis.call('ZREM', key('finished'), id)
  redis.call('ZREM', key('refunds', space, account), id)
end

-- Delete a task; a refund that is not booked yet would be lost with it.
local function delete_task(id)
  local space, account, ends, owed = unpack(redis.call('HMGET', key('task', id), 'space', 'account', 'ends', 'owed'))
  if owed and ends and ends ~= '' and redis.call('HEXISTS', key('balances', space), account) == 1 then
    give_back(key('balances', space), account, owed)
  end
  unschedule(id, space, account)
  redis.call('ZREM', key('order'), id)
  redis.call('ZREM', key('order', space), id)
  redis.call('UNLINK', key('task', id))
end

-- Delete the oldest finished tasks beyond KEEP, and the oldest of all beyond MOST_UNFINISHED: some at a time, so that no
-- call of another server waits for long.
local function delete_excess(now)
  local excess = math.min(redis.call('ZCARD', key('order')) - KEEP, MOST_DELETED)
  if excess <= 0 then
    return
  end
  -- A task moves once, when its end has passed: what is deleted next is the oldest one, not the one that ended first.
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('ending'), '-inf', now, 'LIMIT', 0, MOST_MOVED)) do
    redis.call('ZADD', key('finished'), redis.call('ZSCORE', key('order'), id), id)
    redis.call('ZREM', key('ending'), id)
  end
  local finished = redis.call('ZPOPMIN', key('finished'), excess)
  for place = 1, #finished, 2 do
    delete_task(finished[place])
  end
  excess = math.min(redis.call('ZCARD', key('order')) - MOST_UNFINISHED, MOST_DELETED)
  if excess > 0 then
    for _, id in ipairs(redis.call('ZRANGE', key('order'), 0, excess - 1)) do
      delete_task(id)
    end
  end
end

-- Return whether a rate limit allows one more call now; the window has the calls by their times.
local function has_room(window, now, requests, length)
  redis.call('ZREMRANGEBYSCORE', window, '-inf', now - length)
  return redis.call('ZCARD', window) < tonumber(requests)
end

-- Count a call in the window of a rate limit, under a name of its own.
local function count_call(window, now, length, name)
  redis.call('ZADD', window, now, name)
  redis.call('PEXPIRE', window, math.max(WINDOW_MILLISECONDS, length))
end

-- Return what a request did that was sent again because its reply was lost, nil for a new one.
local function remembered(request)
  return redis.call('GET', key('request', request))
end

local function remember(request, result)
  redis.call('SET', key('request', request), result, 'PX', REMEMBERED_MILLISECONDS)
  return result
end
