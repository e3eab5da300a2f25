-- Remove a job of BullMQ that has been sent, as BullMQ itself removes one: only if no worker has it, and if it is still
-- as it was read. Returns the list that it was in, or why it was left: active, changed, gone.
--
-- KEYS: 1 the job, 2 its lock, 3 wait, 4 paused, 5 prioritized, 6 delayed, 7 events, 8 meta, 9 to 13 what belongs to the
--       job (logs, dependencies, processed, failed, unsuccessful)
-- ARGV: 1 the job's id, 2 its data as read, 3 how the keys of the queue begin
local id, prefix = ARGV[1], ARGV[3]
local data, deduplication = unpack(redis.call('HMGET', KEYS[1], 'data', 'deid'))
if not data then return 'gone' end
if redis.call('EXISTS', KEYS[2]) == 1 then return 'active' end
if data ~= ARGV[2] then return 'changed' end

local from
if redis.call('LREM', KEYS[3], -1, id) == 1 then
    from = 'wait'
elseif redis.call('LREM', KEYS[4], -1, id) == 1 then
    from = 'paused'
elseif redis.call('ZREM', KEYS[5], id) == 1 then
    from = 'prioritized'
elseif redis.call('ZREM', KEYS[6], id) == 1 then
    from = 'delayed'
else
    return 'active'
end

if deduplication and redis.call('GET', prefix .. 'de:' .. deduplication) == id then
    redis.call('DEL', prefix .. 'de:' .. deduplication)
end
redis.call('DEL', KEYS[1], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13])
local most = redis.call('HGET', KEYS[8], 'opts.maxLenEvents') or 10000
redis.call('XADD', KEYS[7], 'MAXLEN', '~', most, '*', 'event', 'removed', 'jobId', id, 'prev', from)
return from
