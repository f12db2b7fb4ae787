-- Requests at the same time: a hash of instances, each with how many it runs, the version of that count, and until when
-- it holds. An instance that has died renews nothing, and its places are free again.

local function others(key, me)
  local count = 0
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    if all[at] ~= me then
      local running, till = string.match(all[at + 1], '^(%d+) %d+ (%d+)$')
      if tonumber(till) > now then
        count = count + tonumber(running)
      else
        redis.call('HDEL', key, all[at])
      end
    end
  end
  return count
end

local function publish(key, me, count, version, life)
  local kept = redis.call('HGET', key, me)
  if kept then
    local known, till = string.match(kept, '^%d+ (%d+) (%d+)$')
    -- What is older has come late.
    if tonumber(till) > now and tonumber(known) > version then return end
  end
  if count == 0 then
    redis.call('HDEL', key, me)
  else
    redis.call('HSET', key, me, whole(count) .. ' ' .. whole(version) .. ' ' .. whole(now + life * 1000))
    redis.call('PEXPIRE', key, whole(life))
  end
end
