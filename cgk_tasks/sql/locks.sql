-- name: wait_for_locks
-- No longer than this, until the transaction ends; 0: without end.
SELECT set_config('lock_timeout', %(milliseconds)s::int || 'ms', true);
