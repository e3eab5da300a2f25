-- Pauses of a queue, a tenant, an event, or what is all of those that are named. cgk_tasks/flow/pauses.py changes them.

-- fragment: these
-- By what a pause is known.
queue IS NOT DISTINCT FROM %(queue)s AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s AND event IS NOT DISTINCT FROM %(event)s

-- name: get_pause
SELECT mode, until, reason FROM cgk.pauses WHERE {{these}};

-- name: put_pause
INSERT INTO cgk.pauses (queue, tenant_id, event, mode, until, paused_by, reason)
VALUES (%(queue)s, %(tenant_id)s, %(event)s, %(mode)s, %(until)s, %(by)s, %(reason)s)
ON CONFLICT (queue, tenant_id, event) DO UPDATE
   SET mode = EXCLUDED.mode, until = EXCLUDED.until, paused_by = EXCLUDED.paused_by, reason = EXCLUDED.reason;

-- name: remove_pause
DELETE FROM cgk.pauses WHERE {{these}} RETURNING mode, until, reason;

-- name: get_queue_pause
SELECT 'hold' AS mode, until, reason FROM cgk.paused_queues WHERE queue = %(queue)s;

-- name: put_queue_pause
INSERT INTO cgk.paused_queues (queue, until, paused_by, reason) VALUES (%(queue)s, %(until)s, %(by)s, %(reason)s)
ON CONFLICT (queue) DO UPDATE SET until = EXCLUDED.until, paused_by = EXCLUDED.paused_by, reason = EXCLUDED.reason;

-- name: remove_queue_pause
DELETE FROM cgk.paused_queues WHERE queue = %(queue)s RETURNING 'hold' AS mode, until, reason;

-- name: list_pauses
SELECT queue, tenant_id, event, mode, until, paused_at, paused_by, reason FROM cgk.pauses
UNION ALL
SELECT queue, NULL, NULL, 'hold', until, paused_at, paused_by, reason FROM cgk.paused_queues
 ORDER BY queue NULLS LAST, tenant_id NULLS LAST, event NULLS LAST;

-- name: known_pauses
-- What processes must know; of queues that are paused as a whole the claim knows.
SELECT queue, tenant_id, event, mode = 'drop' AS drops FROM cgk.pauses;

-- name: are_over
-- Whether a pause is to end now.
SELECT EXISTS (SELECT FROM cgk.pauses WHERE until <= now())
    OR EXISTS (SELECT FROM cgk.paused_queues WHERE until <= now()) AS yes;

-- name: end_pauses
WITH ended AS (
    DELETE FROM cgk.pauses WHERE until <= now() RETURNING queue, tenant_id, event, mode, until, reason
), ended_queues AS (
    DELETE FROM cgk.paused_queues WHERE until <= now() RETURNING queue, until, reason
)
SELECT * FROM ended UNION ALL SELECT queue, NULL, NULL, 'hold', until, reason FROM ended_queues;

-- name: pauses_of_run
-- Those that a run is under, but for that of its queue as a whole.
SELECT queue, tenant_id, event, mode, until, paused_at, paused_by, reason FROM cgk.pauses
 WHERE (queue IS NULL OR queue = %(queue)s) AND (tenant_id IS NULL OR tenant_id = %(tenant_id)s)
   AND (event IS NULL OR event = %(event)s)
 ORDER BY num_nonnulls(queue, tenant_id, event), id;
