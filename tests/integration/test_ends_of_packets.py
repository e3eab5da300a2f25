"""What is claimed together and written together: each run's own end, and nothing read but the packet."""

import json
import os

import pytest

from cgk_tasks import SendItem, SendOptions, get_run, send_jobs
from cgk_tasks.events import TenantEvent
from cgk_tasks.runs import ends, store
from cgk_tasks.runs.ends import Closing
from cgk_tasks.sql.postgres import autocommit, statements, uuid_array
from cgk_tasks.worker.identity import worker_id

TRANSITIONS = statements("transitions")


class Parcel(TenantEvent, event="test.parcel"):
    """Of which nobody has a job."""

    number: int = 0


def sent(count, queue="nobody-listens"):
    options = SendOptions(queue=queue)
    parcels = (SendItem(Parcel(tenant_id="acme", number=number), options=options) for number in range(count))
    return [run.id for run in send_jobs(parcels)]


def claimed(ids):
    return store.claim(ids, worker_id(), os.getpid())


def completed(run, result="null", **others):
    return Closing(run.id, run.tenant_id, run.attempt, "completed", result=result, **{"job": "deliver", **others})


def finish(closings):
    with autocommit() as connection:
        ends.finish_apart(connection, worker_id(), closings)


def rows(ids):
    """(state, job, result, error code) of each."""
    return [(run.state, run.job, run.result, run.error_code) for run in map(get_run, ids)]


def test_each_run_of_a_packet_that_completed_keeps_its_own_result(database):
    ids = sent(3)
    finish([completed(run, str(number)) for number, run in enumerate(claimed(ids))])
    assert rows(ids) == [("completed", "deliver", number, None) for number in range(3)]


def test_runs_that_fail_are_written_beside_those_that_complete(database):
    ids = sent(4)
    first, second, third, last = claimed(ids)
    error = json.dumps({"type": "ValueError", "message": "no"})
    failed = [
        Closing(run.id, run.tenant_id, run.attempt, "failed", "deliver", error=error, error_code="NO")
        for run in (second, third)
    ]
    finish([completed(first), *failed, completed(last)])
    assert [(state, code) for state, _job, _result, code in rows(ids)] == [
        ("completed", None), ("failed", "NO"), ("failed", "NO"), ("completed", None),
    ]  # fmt: skip


def test_runs_of_several_jobs_keep_theirs(database):
    ids = sent(4)
    finish([completed(run, job=job) for run, job in zip(claimed(ids), "abab", strict=True)])
    assert [job for _state, job, _result, _code in rows(ids)] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("write", [ends.finish, ends.finish_apart])
def test_runs_at_different_attempts_are_closed_by_these(database, write):
    ids = sent(4)
    claimed(ids[:2])
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET state = 'pending' WHERE id = ANY(%s::uuid[])", [ids[:2]])
    runs = claimed(ids)
    assert [run.attempt for run in runs] == [2, 2, 1, 1]
    with autocommit() as connection:
        write(connection, worker_id(), [completed(run) for run in runs])
    assert [get_run(run_id).state for run_id in ids] == ["completed"] * 4


def test_a_run_of_the_packet_that_is_at_another_attempt_meanwhile_stays(database):
    ids = sent(3)
    closings = [completed(run) for run in claimed(ids)]
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET attempt = attempt + 1 WHERE id = %s", [ids[1]])
    finish(closings)
    assert [get_run(run_id).state for run_id in ids] == ["completed", "running", "completed"]


def test_a_run_that_a_message_names_twice_is_claimed_once(database):
    ids = sent(2)
    assert [run.id for run in claimed([ids[0], ids[1], ids[0]])] == ids


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_neither_a_claim_nor_a_finish_reads_other_runs_than_those_of_the_packet(database, setting, is_analyzed):
    """While others wait by the thousand, and PostgreSQL's statistics are those of an empty table, or none."""
    setting(CGK_FAIR_QUEUES="")  # all of them are in the broker, and none in a lane
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs")
        if is_analyzed:
            connection.execute("ANALYZE cgk.runs")
        packet = sent(10_000, "q-full-of-parcels")[:100]
        try:
            assert used(connection, "claim", ids=uuid_array(packet), worker_id=worker_id(), pid=1) == {"runs_pkey"}
            closings = [Closing(one, "acme", 1, "completed", "deliver", "null") for one in packet]
            values = ends.values_of_completed(worker_id(), closings, flush=False)
            assert used(connection, "finish_completed", **values) == {"runs_pkey"}
        finally:
            connection.execute("TRUNCATE cgk.runs")


def used(connection, name, **values):
    """The indexes by which the statement finds runs; `all of them` where it reads the table."""
    explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {TRANSITIONS[name]}"
    (plan,) = connection.execute(explained, values).fetchone()[0]
    found, nodes = set(), [plan["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "runs":
            found.add("all of them")
        if node.get("Index Name", "").startswith("runs_"):
            found.add(node["Index Name"])
    return found
