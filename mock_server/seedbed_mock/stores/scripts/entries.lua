-- Return the entries of all journals with numbers in a range, and the largest number of all.
local first, last = unpack(ARGV)

local found = {redis.call('GET', key('journals', 'number')) or '0'}
for _, space in ipairs(redis.call('ZRANGEBYSCORE', key('journals'), first, '+inf')) do
  for _, entry in ipairs(redis.call('XRANGE', key('journal', space), first .. '-0', last .. '-0')) do
    found[#found + 1] = {space, string.match(entry[1], '%d+'), entry[2][2]}
  end
end
return found
