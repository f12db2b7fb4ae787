-- Debits tokens from every bucket or from none; each must have at least one.
-- KEYS: the buckets. ARGV: the tokens; then, a bucket: tokens a minute.
-- Answers like request.lua: 0 or 1; which bucket, what is left, microseconds until full, until there is one.

local debit = tonumber(ARGV[1]) * TOKEN
local buckets = {}
for i, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[i + 1])
  local parts, full = filled(key, limit)
  if parts < TOKEN then
    return { 1, i, 0, refill(full - parts, limit), refill(TOKEN - parts, limit) }
  end
  buckets[i] = { key = key, limit = limit, parts = parts - debit, full = full }
end

local answer = { 0, 0, MOST, 0, 0 }
for i, bucket in ipairs(buckets) do
  keep(bucket.key, bucket.limit, bucket.parts, bucket.full)
  local left = math.max(0, math.floor(bucket.parts / TOKEN))
  if left < answer[3] then
    answer = { 0, i, left, refill(bucket.full - bucket.parts, bucket.limit), 0 }
  end
end
return answer
