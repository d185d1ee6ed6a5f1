-- Add, remove or list the fault rules of the fleet, which all servers follow, with their counts.
local what, request, scope, number = unpack(ARGV)

local rules, counts, removed = key('rules'), key('counts'), 0
if what == 'add' and not remembered(request) then
  if redis.call('LLEN', rules) + #ARGV - 4 > MOST_RULES then
    return {'full'}
  end
  for place = 5, #ARGV do
    local rule = {number = redis.call('INCR', key('rules', 'number')), text = ARGV[place], scope = scope}
    redis.call('RPUSH', rules, cjson.encode(rule))
  end
  remember(request, 'done')
elseif what == 'clear' then
  for _, text in ipairs(redis.call('LRANGE', rules, 0, -1)) do
    local rule = cjson.decode(text)
    if (scope == '*' or rule.scope == scope) and (number == '' or rule.number == tonumber(number)) then
      redis.call('LREM', rules, 1, text)
      redis.call('HDEL', counts, rule.number .. ':seen', rule.number .. ':hits')
      removed = removed + 1
    end
  end
  if redis.call('LLEN', rules) == 0 then
    redis.call('UNLINK', key('rules', 'number'))
  end
end
local list = {'done', removed}
for _, text in ipairs(redis.call('LRANGE', rules, 0, -1)) do
  local rule = cjson.decode(text)
  list[#list + 1] = text
  list[#list + 1] = redis.call('HGET', counts, rule.number .. ':seen') or '0'
  list[#list + 1] = redis.call('HGET', counts, rule.number .. ':hits') or '0'
end
return list
