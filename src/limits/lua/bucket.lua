-- A bucket of N, refilled evenly over 60 s, that may go below zero. Counted in parts so that N a minute is N parts a
-- microsecond: whole numbers. A bucket that is not there is full.

local TOKEN = 60000000
-- Beyond it a number is no longer whole.
local MOST = 9e15

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function whole(number)
  return string.format('%.0f', number)
end

local function filled(key, limit)
  local full = limit * TOKEN
  local kept = redis.call('HMGET', key, 'parts', 'at')
  if not kept[1] then return full, full end
  -- Another server may have taken over, with a clock that is behind.
  local passed = math.max(0, now - tonumber(kept[2]))
  return math.min(full, tonumber(kept[1]) + passed * limit), full
end

-- Microseconds until `missing` parts are refilled.
local function refill(missing, limit)
  -- Never; the caller is told what a limit on requests of zero tells.
  if limit == 0 then return 60000000 end
  return math.min(MOST, math.ceil(math.max(0, missing) / limit))
end

local function keep(key, limit, parts, full)
  if parts >= full then
    redis.call('DEL', key)
  else
    redis.call('HSET', key, 'parts', whole(parts), 'at', whole(now))
    redis.call('PEXPIRE', key, whole(refill(full - parts, limit) / 1000 + 1000))
  end
end
