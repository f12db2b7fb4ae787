-- Gives tokens back to buckets, or takes more. KEYS: the buckets. ARGV, a bucket: tokens a minute, tokens given back.

for i, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[2 * i - 1])
  local parts, full = filled(key, limit)
  keep(key, limit, math.min(full, parts + tonumber(ARGV[2 * i]) * TOKEN), full)
end
return #KEYS
