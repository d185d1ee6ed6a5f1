-- Count a call that meets the conditions of a fault rule, and return whether the rule applies to it. A hit is counted
-- at once, so that servers cannot exceed the limit together; it is given back if the effect changes nothing.
local name, field, times, nth, every, share, seed = unpack(ARGV)

local counts = key(unpack(name == '' and {'counts'} or {'counts', name}))
local seen = redis.call('HINCRBY', counts, field .. ':seen', 1)
local hits = tonumber(redis.call('HGET', counts, field .. ':hits') or '0')
if name ~= '' then
  redis.call('PEXPIRE', counts, WINDOW_MILLISECONDS)
  redis.call('SADD', key('spaces'), name)
end
local is_hit = (times == '' or hits < tonumber(times)) and (nth == '' or seen == tonumber(nth))
  and (every == '' or seen % tonumber(every) == 0)
if is_hit and share ~= '' then
  -- The same calls in the same order get the same faults, whichever server they reach.
  is_hit = tonumber(string.sub(redis.sha1hex(seed .. seen), 1, 8), 16) / 2 ^ 32 < tonumber(share)
end
if is_hit then
  redis.call('HINCRBY', counts, field .. ':hits', 1)
end
return {is_hit and 1 or 0, seen, hits}
