-- What came in from other systems.

-- name: count_deliveries
INSERT INTO cgk.received_webhooks AS known (source, outcome, deliveries)
SELECT c.source, c.outcome, c.deliveries
  FROM unnest(%(source)b::text[], %(outcome)b::text[], %(deliveries)b::bigint[]) AS c (source, outcome, deliveries)
 ORDER BY c.source, c.outcome
ON CONFLICT (source, outcome) DO UPDATE SET deliveries = known.deliveries + EXCLUDED.deliveries, last_at = now();

-- name: delivery_counts
SELECT source, outcome, deliveries, last_at FROM cgk.received_webhooks ORDER BY source, outcome;

-- name: no_delivery_counts
-- Before the table is there.
SELECT NULL::text AS source, NULL::text AS outcome, 0::bigint AS deliveries, now() AS last_at WHERE false;
