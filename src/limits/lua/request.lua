-- Lets one request into every scope or into none.
-- KEYS, a scope: its bucket of requests, its places.
-- ARGV: the instance, how long its places hold (ms); then, a scope: requests a minute and places (-1: no limit), how
-- many this instance runs with this one, the version of that.
-- Answers: 0 let in, 1 no request left, 2 no place left; of which scope (0: none has a rate), what is left of its rate,
-- microseconds until it is full, microseconds until there is one.

local me, life = ARGV[1], tonumber(ARGV[2])
local scopes = {}
for i = 1, #KEYS / 2 do
  scopes[i] = {
    bucket = KEYS[2 * i - 1],
    places = KEYS[2 * i],
    limit = tonumber(ARGV[4 * i - 1]),
    most = tonumber(ARGV[4 * i]),
    running = tonumber(ARGV[4 * i + 1]),
    version = tonumber(ARGV[4 * i + 2]),
  }
end

for i, scope in ipairs(scopes) do
  if scope.most >= 0 and others(scope.places, me) + scope.running > scope.most then
    return { 2, i, 0, 0, 0 }
  end
end
for i, scope in ipairs(scopes) do
  if scope.limit >= 0 then
    scope.parts, scope.full = filled(scope.bucket, scope.limit)
    if scope.parts < TOKEN then
      return { 1, i, 0, refill(scope.full - scope.parts, scope.limit), refill(TOKEN - scope.parts, scope.limit) }
    end
  end
end

local answer = { 0, 0, MOST, 0, 0 }
for i, scope in ipairs(scopes) do
  if scope.limit >= 0 then
    local parts = scope.parts - TOKEN
    keep(scope.bucket, scope.limit, parts, scope.full)
    local left = math.floor(parts / TOKEN)
    if left < answer[3] then
      answer = { 0, i, left, refill(scope.full - parts, scope.limit), 0 }
    end
  end
  if scope.most >= 0 then
    publish(scope.places, me, scope.running, scope.version, life)
  end
end
return answer
