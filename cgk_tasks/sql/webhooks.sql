-- name: add_endpoint
INSERT INTO cgk.webhook_endpoints (id, tenant_id, url, topics, secret)
VALUES (%(id)s, %(tenant_id)s, %(url)s, %(topics)s, %(secret)s)
RETURNING id::text, tenant_id, url, topics, secret AS stored_secret, NULL AS stored_old_secret, created_at, failing_since, switched_off_at, switched_off_reason,
          checked_at, check_outcome;

-- name: list_endpoints
-- Of one tenant or of all; of one id or all; those that are switched off too. An old secret only until its end.
SELECT id::text, tenant_id, url, topics, secret AS stored_secret, created_at,
       CASE WHEN old_secret_until > now() THEN old_secret END AS stored_old_secret,
       CASE WHEN old_secret_until > now() THEN old_secret_until END AS old_secret_until, failing_since, switched_off_at, switched_off_reason,
       checked_at, check_outcome
  FROM cgk.webhook_endpoints
 WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s) AND (%(id)s::text IS NULL OR id::text = %(id)s)
 ORDER BY tenant_id, created_at, id;

-- name: remove_endpoint
-- With its deliveries.
DELETE FROM cgk.webhook_endpoints WHERE tenant_id = %(tenant_id)s AND id::text = %(id)s;

-- name: enable_endpoint
UPDATE cgk.webhook_endpoints SET switched_off_at = NULL, switched_off_reason = NULL, failing_since = NULL
 WHERE tenant_id = %(tenant_id)s AND id::text = %(id)s;

-- name: rotate_secret
-- The secret becomes the old one for keep_seconds, and takes the place of an older one; 0: it ends now.
UPDATE cgk.webhook_endpoints
   SET old_secret = CASE WHEN %(keep_seconds)s::float8 > 0 THEN secret END,
       old_secret_until = CASE WHEN %(keep_seconds)s::float8 > 0 THEN now() + make_interval(secs => %(keep_seconds)s) END,
       secret = %(secret)s
 WHERE tenant_id = %(tenant_id)s AND id::text = %(id)s;

-- name: forget_old_secrets
-- They have ended already; here they go.
UPDATE cgk.webhook_endpoints SET old_secret = NULL, old_secret_until = NULL
 WHERE tenant_id = %(tenant_id)s AND old_secret_until <= now();

-- name: note_check
UPDATE cgk.webhook_endpoints SET checked_at = now(), check_outcome = %(outcome)s WHERE id = %(id)s::uuid;

-- name: keep_message
-- The first who brings a message decides what is in it.
INSERT INTO cgk.webhook_messages (id, tenant_id, event_id, source, topic, body)
VALUES (%(id)s, %(tenant_id)s, %(event_id)s, %(source)s, %(topic)s, %(body)s)
ON CONFLICT (tenant_id, event_id) DO NOTHING;

-- name: find_message
SELECT id::text, source, topic, body, received_at
  FROM cgk.webhook_messages WHERE tenant_id = %(tenant_id)s AND event_id = %(event_id)s;

-- name: open_deliveries
-- One for each endpoint that wants the topic. patterns: all that match it.
INSERT INTO cgk.webhook_deliveries (message_id, endpoint_id)
SELECT %(message_id)s::uuid, id FROM cgk.webhook_endpoints
 WHERE tenant_id = %(tenant_id)s AND switched_off_at IS NULL AND topics && %(patterns)b::text[]
ON CONFLICT DO NOTHING;

-- name: reopen_deliveries
-- What was given up is tried again, from its first attempt on; only where the endpoint is on.
UPDATE cgk.webhook_deliveries d SET state = 'waiting', attempts = 0, next_at = now()
  FROM cgk.webhook_endpoints e
 WHERE d.message_id = %(message_id)s::uuid AND d.state = 'failed' AND e.id = d.endpoint_id AND e.switched_off_at IS NULL;

-- name: claim_deliveries
-- Some that are due, for one attempt. Locks their rows for the statement only; next_at keeps others away afterwards.
WITH due AS (
    SELECT d.message_id, d.endpoint_id, e.tenant_id, e.url, e.secret,
           CASE WHEN e.old_secret_until > now() THEN e.old_secret END AS old_secret
      FROM cgk.webhook_deliveries d JOIN cgk.webhook_endpoints e ON e.id = d.endpoint_id
     WHERE d.message_id = %(message_id)s::uuid AND d.state = 'waiting' AND d.next_at <= now()
       AND e.switched_off_at IS NULL
     LIMIT %(limit)s FOR UPDATE OF d SKIP LOCKED
)
UPDATE cgk.webhook_deliveries d
   SET attempts = d.attempts + 1, attempted_at = now(), next_at = now() + make_interval(secs => %(lease_seconds)s)
  FROM due
 WHERE d.message_id = due.message_id AND d.endpoint_id = due.endpoint_id
RETURNING d.message_id::text, d.endpoint_id::text, d.attempts, due.tenant_id, due.url, due.secret, due.old_secret;

-- name: note_delivered
WITH delivered AS (
    UPDATE cgk.webhook_deliveries
       SET state = 'delivered', seconds = %(seconds)s, status = %(status)s, excerpt = %(excerpt)s, error = NULL
     WHERE message_id = %(message_id)s::uuid AND endpoint_id = %(endpoint_id)s::uuid
)
UPDATE cgk.webhook_endpoints SET failing_since = NULL
 WHERE id = %(endpoint_id)s::uuid AND failing_since IS NOT NULL;

-- name: note_not_delivered
-- delay_seconds: NULL gives the delivery up. An endpoint that is gone, or has only failed for so long, is switched off;
-- returns a row then.
WITH attempted AS (
    UPDATE cgk.webhook_deliveries
       SET state = CASE WHEN %(delay_seconds)s::float8 IS NULL THEN 'failed' ELSE 'waiting' END,
           next_at = now() + make_interval(secs => coalesce(%(delay_seconds)s::float8, 0)),
           seconds = %(seconds)s, status = %(status)s, excerpt = %(excerpt)s, error = %(error)s
     WHERE message_id = %(message_id)s::uuid AND endpoint_id = %(endpoint_id)s::uuid AND attempts = %(attempts)s
)
UPDATE cgk.webhook_endpoints
   SET failing_since = coalesce(failing_since, now()),
       switched_off_at = CASE WHEN %(off_reason)s::text IS NOT NULL
           OR failing_since < now() - make_interval(secs => %(give_up_seconds)s) THEN now() END,
       switched_off_reason = CASE WHEN %(off_reason)s::text IS NOT NULL THEN %(off_reason)s
           WHEN failing_since < now() - make_interval(secs => %(give_up_seconds)s) THEN %(give_up_reason)s END
 WHERE id = %(endpoint_id)s::uuid AND switched_off_at IS NULL
RETURNING switched_off_reason;

-- name: note_not_attempted
-- An attempt that failed on our side. It counts, so that it ends; but not against the endpoint.
UPDATE cgk.webhook_deliveries
   SET state = CASE WHEN %(delay_seconds)s::float8 IS NULL THEN 'failed' ELSE 'waiting' END,
       next_at = now() + make_interval(secs => coalesce(%(delay_seconds)s::float8, 0)),
       seconds = NULL, status = NULL, excerpt = NULL, error = %(error)s
 WHERE message_id = %(message_id)s::uuid AND endpoint_id = %(endpoint_id)s::uuid AND attempts = %(attempts)s;

-- name: fail_waiting_of_endpoint
UPDATE cgk.webhook_deliveries SET state = 'failed', error = coalesce(error, 'its endpoint was switched off')
 WHERE endpoint_id = %(endpoint_id)s::uuid AND state = 'waiting';

-- name: progress
-- waiting: those whose endpoint is on, and how long until the first of them is due.
SELECT count(*) FILTER (WHERE d.state = 'delivered') AS delivered,
       count(*) FILTER (WHERE d.state = 'failed') AS failed,
       count(*) FILTER (WHERE d.state = 'waiting' AND e.switched_off_at IS NULL) AS waiting,
       extract(epoch FROM min(greatest(d.next_at, now())) FILTER (
           WHERE d.state = 'waiting' AND e.switched_off_at IS NULL) - now())::float8 AS seconds
  FROM cgk.webhook_deliveries d JOIN cgk.webhook_endpoints e ON e.id = d.endpoint_id
 WHERE d.message_id = %(message_id)s::uuid;

-- name: list_deliveries
-- The newest first.
SELECT m.event_id, m.topic, 'msg_' || replace(m.id::text, '-', '') AS webhook_id, d.endpoint_id::text, d.state, d.attempts,
       d.attempted_at, CASE WHEN d.state = 'waiting' THEN d.next_at END AS next_at, d.seconds, d.status, d.error, d.excerpt
  FROM cgk.webhook_deliveries d JOIN cgk.webhook_messages m ON m.id = d.message_id
 WHERE m.tenant_id = %(tenant_id)s AND (%(endpoint_id)s::text IS NULL OR d.endpoint_id::text = %(endpoint_id)s)
   AND (%(state)s::text IS NULL OR d.state = %(state)s)
 ORDER BY m.received_at DESC, m.id, d.endpoint_id LIMIT %(limit)s;

-- name: forget_messages
-- With their deliveries; not while one waits.
DELETE FROM cgk.webhook_messages WHERE id IN (
    SELECT m.id FROM cgk.webhook_messages m
     WHERE m.tenant_id = %(tenant_id)s AND m.received_at < now() - make_interval(days => %(days)s)
       AND NOT EXISTS (SELECT FROM cgk.webhook_deliveries d JOIN cgk.webhook_endpoints e ON e.id = d.endpoint_id
                        WHERE d.message_id = m.id AND d.state = 'waiting' AND e.switched_off_at IS NULL)
     LIMIT %(limit)s);
