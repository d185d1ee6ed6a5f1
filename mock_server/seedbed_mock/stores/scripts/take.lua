-- Return whether a rate limit allows one more call, and count it under its name if it has one.
local kind, space, account, now, requests, length, name = unpack(ARGV)

local window = key(kind, space, account)
if name ~= '' and redis.call('ZSCORE', window, name) then
  return 1
end
if not has_room(window, now, requests, length) then
  return 0
end
if name ~= '' then
  count_call(window, now, length, name)
end
return 1
