"""Large payloads: each is written once, in cgk.run_bodies, and read wherever its run is."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgk_tasks import (
    cancel_job,
    get_job_status,
    get_run,
    migrations,
    send_job,
    send_jobs,
    tenant_context,
    tenant_session,
)
from cgk_tasks.builtin.system import cleanup
from cgk_tasks.errors import StoreError
from cgk_tasks.runs import bodies, insertion, partitions, store
from cgk_tasks.runs.models import NewRun, first_run_id, new_run_id
from cgk_tasks.runs.sealing import open_sealed
from cgk_tasks.sql.postgres import autocommit, close_pools, fetch, transaction
from cgk_tasks.tenancy import add_tenant
from cgk_tasks.testing import run_job
from tests.support.claims import claim_here
from tests.support.jobs import Behave

pytestmark = pytest.mark.usefixtures("database")

(CLEANUP,) = cleanup.JOBS
LARGE = "ä large text, " * 1_000


def large(text=LARGE, tenant="acme"):
    return Behave(tenant_id=tenant, action="echo", argument=text)


def rows_of(run_id):
    """The run's rows, open and closed."""
    with autocommit() as connection:
        return fetch(
            connection,
            "SELECT 'open' AS place, tenant_id, sealed_payload FROM cgk.runs WHERE id = %(id)s"
            " UNION ALL SELECT 'closed', tenant_id, sealed_payload FROM cgk.run_history WHERE id = %(id)s",
            {"id": run_id},
        )


def bodies_of(*run_ids):
    with autocommit() as connection:
        statement = "SELECT sealed_payload FROM cgk.run_bodies WHERE run_id = ANY(%(ids)s::uuid[])"
        return [row["sealed_payload"] for row in fetch(connection, statement, {"ids": list(run_ids)})]


def new_run(payload, **more):
    return NewRun(str(new_run_id()), "acme", "test.behave", payload, "cgk", state="scheduled", **more)


@pytest.fixture
def older_worker():
    """A living one of a release that reads no bodies, which this process has just learnt of."""
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues, revision)"
            " VALUES (gen_random_uuid(), 'old', 1, '{q}', '0032')"
        )
    forget_what_is_known()
    yield
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.workers WHERE name = 'old'")
    forget_what_is_known()


def forget_what_is_known():
    bodies._KNOWLEDGE.current()._ask_at = 0.0


# Where it is


def test_a_large_payload_is_kept_apart_and_its_row_refers_to_it():
    run = send_job(large())
    (row,), (body,) = rows_of(run.id), bodies_of(run.id)
    assert (len(row["sealed_payload"]), json.loads(body)["argument"]) == (33, LARGE)


def test_a_small_payload_stays_in_its_row():
    run = send_job(large("short"))
    (row,) = rows_of(run.id)
    assert (json.loads(row["sealed_payload"])["argument"], bodies_of(run.id)) == ("short", [])


def test_a_run_that_ends_takes_the_reference_into_the_history_and_its_body_stays_as_it_is():
    run = send_job(large())
    (before,) = rows_of(run.id)
    cancel_job(run.id)
    (after,) = rows_of(run.id)
    assert (after["place"], after["sealed_payload"]) == ("closed", before["sealed_payload"])
    assert len(bodies_of(run.id)) == 1


@pytest.mark.parametrize("count", [2, 60])
def test_of_many_that_are_sent_together_the_large_ones_are_kept_apart(count):
    runs = send_jobs([large(f"{LARGE}{number}" if number % 2 else str(number)) for number in range(count)])
    assert len(bodies_of(*(run.id for run in runs))) == count // 2
    said = [get_run(run.id).payload["argument"] for run in runs]
    assert said == [f"{LARGE}{number}" if number % 2 else str(number) for number in range(count)]


def test_more_than_goes_into_one_statement_is_kept_in_several(monkeypatch):
    monkeypatch.setattr(bodies, "_BYTES_AT_ONCE", 30_000)
    runs = send_jobs([large(f"{LARGE}{number}") for number in range(7)])
    assert [get_run(run.id).payload["argument"] for run in runs] == [f"{LARGE}{number}" for number in range(7)]


def test_what_a_tenants_session_sends_is_there_once_it_has_committed():
    with tenant_context("acme"), tenant_session() as session:
        run = send_job(large(), session=session)
        assert bodies_of(run.id) == []
    assert get_job_status(run.id).payload["argument"] == LARGE


def test_nothing_is_left_of_a_send_that_was_rolled_back():
    sent = []

    def send_and_fail(ctx):
        sent.append(send_job(large(), session=ctx.db).id)
        raise ValueError

    with pytest.raises(ValueError):
        run_job(send_and_fail, large("short"))
    assert (rows_of(sent[0]), bodies_of(sent[0])) == ([], [])


# Who reads it


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(bodies.FROM_CHARACTERS - 3, bodies.FROM_CHARACTERS + 3) | st.integers(1, 40_000),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5),
)
def test_every_payload_is_read_as_it_was_sent(length, alphabet):
    run = new_run(json.dumps((alphabet * (length // len(alphabet) + 1))[:length], ensure_ascii=False))
    with transaction() as connection:
        insertion.insert_one(connection, run)
        found = store.record_of(run.id, connection)
        connection.execute("DELETE FROM cgk.runs WHERE id = %s", [run.id])
    assert found["payload"] == run.payload


def test_a_claimed_packet_has_the_payloads_of_all_its_runs():
    runs = send_jobs([large(), large("short"), large(f"{LARGE}!")])
    with transaction() as connection:
        connection.execute("UPDATE cgk.runs SET state = 'pending' WHERE id = ANY(%s::uuid[])", [[r.id for r in runs]])
    claimed = store.claim([run.id for run in runs], "3f1d3f3e-6d2a-4d0c-9a0e-5f3f5a1c7e21", 1)
    assert [json.loads(run.payload)["argument"] for run in claimed] == [LARGE, "short", f"{LARGE}!"]


def test_a_run_is_read_in_the_transaction_that_has_made_it():
    run = new_run(json.dumps(LARGE))
    with transaction() as connection:
        insertion.insert_one(connection, run)
        assert store.record_of(run.id, connection)["payload"] == run.payload


def test_the_payload_of_another_tenant_is_not_opened():
    run = send_job(large(tenant="globex"))
    (row,) = rows_of(run.id)
    with pytest.raises(StoreError, match=r"large payload of tenant 'acme'.*not there"):
        open_sealed("acme", "payload", row["sealed_payload"])


def test_a_payload_that_is_gone_is_missed_when_it_is_opened_and_costs_no_other_run_of_the_packet_anything():
    lost, fine = send_jobs([large(), large(f"{LARGE}!")])
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.run_bodies WHERE run_id = %s", [lost.id])
    first, second = claim_here(lost.id), claim_here(fine.id)
    with pytest.raises(StoreError, match="not there"):
        _ = first.payload
    assert json.loads(second.payload)["argument"] == f"{LARGE}!"
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE id = %s", [lost.id])


def test_operators_read_it_with_a_function():
    runs = send_jobs([large(), large("short")])
    statement = (
        "SELECT convert_from(cgk.whole_payload(id, sealed_payload), 'UTF8')::json ->> 'argument' AS argument"
        " FROM cgk.runs WHERE id = ANY(%(ids)s::uuid[])"
    )
    with autocommit() as connection:
        found = fetch(connection, statement, {"ids": [run.id for run in runs]})
    assert {row["argument"] for row in found} == {LARGE, "short"}


# How long it is kept


def test_a_body_is_kept_for_as_long_as_its_run_is_on_record():
    table = next(one for one in partitions.DAILY_TABLES if one.name == "run_bodies")
    old = datetime.now(UTC).date() - timedelta(days=400)
    partitions.make_days(old, table)
    first = first_run_id(datetime(old.year, old.month, old.day, 12, tzinfo=UTC))
    kept, gone = (new_run(json.dumps(LARGE))._replace(id=first[:-1] + digit) for digit in "12")
    with transaction() as connection:
        insertion.insert_many(connection, [kept, gone])
        connection.execute("DELETE FROM cgk.runs WHERE id = %s", [gone.id])
    today = datetime.now(UTC).date()
    partitions.forget_days(today - timedelta(days=90), table)
    assert (len(bodies_of(kept.id)), bodies_of(gone.id)) == (1, [])

    with transaction() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE id = %s", [kept.id])
    assert f"run_bodies_{old:%Y%m%d}" in partitions.forget_days(today - timedelta(days=90), table)


def test_a_cleanup_deletes_it_with_its_run_and_no_other():
    old, young = send_jobs([large(), large(f"{LARGE}!")])
    for run in (old, young):
        cancel_job(run.id)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.run_history SET closed_at = now() - interval '31 days' WHERE id = %s", [old.id])
    run_job(CLEANUP, {"tenantId": "acme", "target": "logs", "olderThanDays": 30}, tenant="acme")
    assert (rows_of(old.id), bodies_of(old.id), len(bodies_of(young.id))) == ([], [], 1)


# Beside an earlier release


def test_while_a_worker_lives_that_does_not_know_them_payloads_stay_in_their_rows(older_worker):
    run = send_job(large())
    assert (bodies_of(run.id), get_run(run.id).payload["argument"]) == ([], LARGE)


@pytest.fixture
def unfinished_database(services, setting):
    """One in which what processes of an earlier release need is left."""
    name = f"unfinished_{os.urandom(4).hex()}"
    with autocommit() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    setting(CGK_DATABASE_URL=services.database_url.replace("/cgk?", f"/{name}?"))
    migrations.migrate("0013")
    add_tenant("acme")
    yield
    close_pools()


def test_so_they_do_in_a_database_in_which_an_upgrade_is_not_finished(unfinished_database):
    runs = [send_job(large()), *send_jobs([large() for _ in range(25)])]
    claimed = store.claim([runs[0].id], "3f1d3f3e-6d2a-4d0c-9a0e-5f3f5a1c7e21", 1)
    assert json.loads(claimed[0].payload)["argument"] == LARGE
    assert {get_run(run.id).payload["argument"] for run in runs} == {LARGE}


def test_and_a_cleanup_deletes_their_runs(unfinished_database):
    run = send_job(large())
    cancel_job(run.id)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.run_history SET closed_at = now() - interval '31 days'")
    run_job(CLEANUP, {"tenantId": "acme", "target": "logs", "olderThanDays": 30}, tenant="acme")
    assert rows_of(run.id) == []
