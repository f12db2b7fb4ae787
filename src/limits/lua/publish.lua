-- Says how many requests an instance runs. KEYS: places. ARGV: the instance, how long it holds (ms); then, a key: the
-- count and its version.

for i, key in ipairs(KEYS) do
  publish(key, ARGV[1], tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2]))
end
return #KEYS
