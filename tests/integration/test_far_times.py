"""A run whose time Python cannot hold: it is shown with the nearest one, and disturbs nobody."""

import pytest
import sqlalchemy as sa

from cgk_tasks import cancel_job, get_job_status, send_job
from cgk_tasks.dashboard.data.run_record import run_record
from cgk_tasks.dashboard.data.run_search import RunFilter, find_runs
from cgk_tasks.monitoring.why import why
from cgk_tasks.runs import store
from cgk_tasks.sql.far_times import EARLIEST, LATEST
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.sql.sqlalchemy_engine import engine
from tests.support.jobs import Behave

FAR = ["infinity", "12026-11-28 10:00:00+00"]
LONG_AGO = ["-infinity", "0044-03-15 12:00:00+00 BC"]


@pytest.fixture
def make(database):
    """A run that nobody claims, with this time to start at."""
    made = []

    def make(time, state="retrying"):
        made.append(send_job(Behave(tenant_id="acme", action="echo"), queue="q-nobody").id)
        with autocommit() as connection:
            connection.execute("UPDATE cgk.runs SET run_at = %s, state = %s WHERE id = %s", [time, state, made[-1]])
        return made[-1]

    yield make
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE id = ANY(%s::uuid[])", [made])


@pytest.mark.parametrize("time", FAR)
def test_a_time_that_is_too_far_is_shown_as_the_latest(make, time):
    assert get_job_status(make(time)).run_at == LATEST


@pytest.mark.parametrize("time", LONG_AGO)
def test_a_time_that_is_too_long_ago_is_shown_as_the_earliest(make, time):
    assert get_job_status(make(time, state="pending")).run_at == EARLIEST


def test_the_other_columns_of_such_a_row_are_read_as_ever(make):
    run = make("infinity")
    status = get_job_status(run)
    assert (status.id, status.tenant_id, status.state, status.payload["action"]) == (run, "acme", "retrying", "echo")
    assert status.created_at.year < 9999


@pytest.mark.parametrize("time", FAR)
def test_lists_have_all_runs(make, time):
    far, other = make(time), make("2030-01-01 00:00:00+00")
    assert {far, other} <= {run.id for run in store.listing(tenant_id="acme")}
    assert {far, other} <= {run.id for run in find_runs(RunFilter(tenant_id="acme")).runs}


@pytest.mark.parametrize("time", FAR)
def test_the_pages_of_the_run_are_there(make, time):
    run = make(time)
    assert run_record(run).facts["run_at"] == LATEST
    assert why(run).state == "retrying"


def test_it_can_be_cancelled(make):
    run = make("infinity")
    assert cancel_job(run).state == "cancelled"


def test_a_packet_with_a_run_that_never_expires_is_claimed(make):
    runs = [make("2026-01-01 00:00:00+00", state="pending") for _ in range(2)]
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET expires_at = 'infinity' WHERE id = %s", [runs[0]])
    claimed = store.claim(runs, "0198c5a0-0000-7000-8000-000000000001", 1)
    assert [run.expires_at for run in claimed] == [LATEST, None]


def test_it_is_read_in_a_session_too(make):
    run = make("infinity")
    with engine().connect() as connection:
        assert store.find(run, connection)["run_at"] == LATEST
        assert connection.scalar(sa.text("SELECT 1")) == 1


def test_it_is_read_in_any_time_zone(make):
    run = make("9999-12-31 23:30:00+00")
    with autocommit() as connection:
        connection.execute("SET TIME ZONE 'Asia/Tokyo'")
        assert fetch(connection, "SELECT run_at FROM cgk.runs WHERE id = %(id)s", {"id": run})[0]["run_at"] == LATEST
        connection.execute("RESET TIME ZONE")


def test_what_is_no_time_is_refused_as_ever(database):
    with autocommit() as connection, pytest.raises(Exception, match="invalid input syntax"):
        fetch(connection, "SELECT 'never'::timestamptz AS at")
