-- Fragments that statements of several files take in.

-- fragment: as_told
-- Arrivals, front, urgency and status of a lane that holds so many runs more, the earliest of them with this rank.
l.arrivals + told.runs, least(l.front, told.rank),
       least(l.urgency, told.rank - make_interval(secs => %(step)s::float8 * (l.priority - 5))),
       CASE l.status WHEN 'empty' THEN 'new' ELSE l.status END

-- fragment: told(which)
-- One lane is told. Not flushed: what a crash makes PostgreSQL forget, the sweep finds.
UPDATE cgk.lanes l SET (arrivals, front, urgency, status) = ROW({{as_told}})
  FROM {which} AS told
 WHERE l.id = told.id

-- fragment: held_between(these)
-- Runs of workers, from one to another, that are known from another part of the statement. Of such a range PostgreSQL expects
-- half a percent of the table. Where its statistics are of a time in which all that was open ran, it takes a single worker to have
-- a large part of it, and reads all.
state = 'running' AND worker_id BETWEEN {these}

-- fragment: held_by(worker)
{{held_between({worker} AND {worker})}}

-- fragment: told_by_job
-- What a run tells of itself; sealed with a key of its own.
p.done, p.total, p.told_at, p.sealed_message AS told_message, p.sealed_metadata AS told_metadata, p.key_id AS told_key_id

-- fragment: first_of_open_lanes
-- What waits longest in each lane that only waits because its queue is crowded.
SELECT l.queue, first.rank FROM cgk.lanes l, LATERAL (
    SELECT rank FROM cgk.runs WHERE lane_id = l.id AND state = 'held' ORDER BY rank LIMIT 1) AS first
 WHERE l.status = 'open' AND cardinality(l.gates) = 0

-- fragment: id_from(milliseconds)
-- The least id of a run of that moment: the ids of a tick's runs begin with its nominal time (cgk.tick_run_id).
(lpad(to_hex({milliseconds}), 12, '0') || repeat('0', 20))::uuid

-- fragment: takes_runs(w)
-- Whether nobody wants this worker to take no more runs. As JSON the row is read also before there is such a column.
(to_jsonb({w}) ->> 'drain_wanted_at') IS NULL

-- fragment: is_slot
-- A slot counts while its run is where it was admitted to. As the index runs_in_slot says it.
slot IS NOT NULL AND admitted_at = handed_over_at AND state IN ('pending', 'running')

-- fragment: has_slot
-- The same of runs that are found by their ids, in words that no index fits.
r.slot IS NOT NULL AND NOT r.admitted_at IS DISTINCT FROM r.handed_over_at AND r.state IN ('pending', 'running')

-- fragment: is(state)
-- Of runs that are found by their ids: no index of a state fits this. PostgreSQL's statistics may be of a time in which no run
-- was in it; then it would take such an index for the shortest way, and read all that are in it by now.
NOT r.state IS DISTINCT FROM {state}

-- fragment: counted_since
-- The rows of a table of counts (cgk.run_counts and its like) that cover the time from then on: of one length, and the minutes that are not added to longer ones yet.
((seconds = %(seconds)s AND begin >= %(since)s::timestamptz)
 OR (%(seconds)s <> 60 AND seconds = 60
     AND begin >= greatest(%(since)s::timestamptz, (SELECT sure_until FROM cgk.count_progress))))
