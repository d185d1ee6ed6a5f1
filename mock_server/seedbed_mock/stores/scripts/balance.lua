-- Return a balance after booking the refunds that are due.
local space, account, opening, now = unpack(ARGV)

return redis.call('HGET', book(space, account, opening, now), account)
