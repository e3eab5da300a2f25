"""Connections to PostgreSQL: how they are made, given back, and what their errors mean."""

import asyncio
import contextlib
import gc
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors as pg_errors

from cgk_tasks import aget_run, asend_job, get_job_status, get_run, send_job
from cgk_tasks.cli.doctor.pooler import check as doctor_pooler
from cgk_tasks.config import get_settings
from cgk_tasks.errors import StoreError
from cgk_tasks.runs import ends, store
from cgk_tasks.runs.ended import just_ended
from cgk_tasks.runs.ends import Closing
from cgk_tasks.sql import direct, piped, postgres
from cgk_tasks.sql import pool as pool_module
from cgk_tasks.sql.connecting import OF_THE_RECORD, Preparing, connect
from cgk_tasks.sql.pool import Pool
from cgk_tasks.sql.postgres import POOL, autocommit, close_pools, is_away, transaction
from cgk_tasks.sql.sqlalchemy_engine import engine
from cgk_tasks.sql.urls import parameters
from tests.support import pgbouncer
from tests.support.code_steps import act_at, stop

pytestmark = pytest.mark.usefixtures("database")
ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97}


def new_connection():
    return connect(parameters(get_settings().database), OF_THE_RECORD, preparing=Preparing(5, None), autocommit=True)


@pytest.fixture
def administrator():
    with psycopg.connect(get_settings().database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def database_setting(administrator):
    """`set("DateStyle", "SQL, DMY")` for new connections to this module's database."""
    name = administrator.info.dbname

    def change(setting, value):
        administrator.execute(f"ALTER DATABASE {name} SET {setting} TO '{value}'")
        close_pools()

    yield change
    administrator.execute("SET default_transaction_read_only TO off")
    administrator.execute(f"ALTER DATABASE {name} RESET ALL")
    administrator.execute(f"ALTER DATABASE {name} SET search_path TO public")
    close_pools()


# ---- the pool -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_warm", [False, True])
def test_a_place_is_free_again_wherever_an_exception_is_raised(is_warm):
    pool = Pool(new_connection, limit=1)
    gc.freeze()  # each collection below looks at what was made here alone
    with postgres.current_runtime().__class__().active():
        postgres.current_runtime().put(POOL, pool)

        def use():
            with autocommit() as connection:
                connection.execute("SELECT 1")

        step = 1
        while True:
            if is_warm:
                use()
            else:
                pool.close()
                pool._keep = 5
            if not act_at(step, stop, use, pool_module, postgres):
                break
            gc.collect()
            pool.give_back(pool.take(), broken=False)  # waits for ever if the place is lost
            step += 1
        assert step > 10
        assert pool.size == 1
        pool.close()
    gc.unfreeze()


def test_the_next_statement_is_answered_wherever_a_send_was_interrupted():
    postgres.current_runtime().put(POOL, Pool(new_connection, limit=3))

    def send():
        with contextlib.suppress(StoreError):  # what says that the connection was lost meanwhile
            send_job("order.created", ORDER)

    send()
    step = 1
    while act_at(step, stop, send, piped, pool_module):
        with autocommit() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with transaction() as connection:
            assert connection.execute("SELECT 2").fetchone() == (2,)
        step += 1
    assert step > 50
    send()


def test_the_next_statement_is_answered_wherever_a_claim_was_interrupted():
    postgres.current_runtime().put(POOL, Pool(new_connection, limit=3))

    def claim():
        with contextlib.suppress(psycopg.OperationalError):  # what says that the connection was lost meanwhile
            store.claim([str(uuid.uuid4())], str(uuid.uuid4()), 1)

    claim()
    step = 1
    while act_at(step, stop, claim, direct, pool_module):
        with autocommit() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert store.claim([str(uuid.uuid4())], str(uuid.uuid4()), 1) == []
        step += 1
    assert step > 30


def test_the_next_transaction_begins_wherever_one_was_interrupted():
    """The driver counts the transactions that are open on a connection, which may be at rest all the same."""
    postgres.current_runtime().put(POOL, Pool(new_connection, limit=3))
    used = []

    def work():
        with contextlib.suppress(psycopg.ProgrammingError), transaction() as connection:  # that it has lost count
            used.append(connection)
            connection.execute("SELECT 1")

    work()
    step = 1
    while act_at(step, stop, work, psycopg.transaction):
        if used[-1].lock.locked():  # at the end of a block, where only this test can stop
            used[-1].lock.release()
        for _ in range(2):
            with transaction() as connection:
                assert connection.execute("SELECT 2").fetchone() == (2,)
        step += 1
    assert step > 50


def test_a_failing_connect_takes_no_place():
    failing = [True]

    def make():
        if failing.pop() if failing else False:
            raise psycopg.OperationalError("no")
        return new_connection()

    pool = Pool(make, limit=1)
    with pytest.raises(psycopg.OperationalError):
        pool.take()
    assert pool.size == 0
    pool.give_back(pool.take(), broken=False)
    pool.close()


def test_who_waits_for_a_place_gets_the_one_that_is_given_back():
    pool, found = Pool(new_connection, limit=1), []
    first = pool.take()
    waiting = threading.Thread(target=lambda: found.append(pool.take()))
    waiting.start()
    pool.give_back(first, broken=False)
    waiting.join(10)
    assert found == [first]
    pool.close()
    first.close()


# ---- what a server, a database or a login says by default -----------------------------------------------------------

ODD = {
    "DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "TimeZone": "America/St_Johns",
    "default_transaction_isolation": "serializable",
}  # fmt: skip


@pytest.fixture
def odd_database(database_setting):
    for name, value in ODD.items():
        database_setting(name, value)


def shown(connection, names):
    return {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in names}


def test_our_own_connections_are_as_our_statements_need_them(odd_database):
    with autocommit() as connection:
        assert shown(connection, ODD) == {
            "DateStyle": "ISO, DMY", "IntervalStyle": "postgres", "TimeZone": "UTC",
            "default_transaction_isolation": "read committed",
        }  # fmt: skip


def test_an_applications_sessions_have_readable_formats_and_their_database_s_time_zone_and_isolation(odd_database):
    with engine().connect() as connection:
        found = {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ODD}
    assert found == {
        "DateStyle": "ISO, DMY", "IntervalStyle": "postgres", "TimeZone": "America/St_Johns",
        "default_transaction_isolation": "serializable",
    }  # fmt: skip


def test_sends_and_reads_work_in_such_a_database(odd_database):
    handle = send_job("order.created", ORDER, delay=60, idempotency_key="odd")
    status = get_job_status(handle.id)
    assert 50 < (status.run_at - status.created_at).total_seconds() < 70
    with engine().connect() as connection:
        assert connection.scalar(sa.text("SELECT now()")).utcoffset() is not None


def test_settings_in_the_url_win():
    values = parameters(get_settings().database) | {"options": "-c TimeZone=Asia/Tokyo"}
    with connect(values, OF_THE_RECORD, preparing=Preparing(None, None)) as connection:
        assert shown(connection, ["TimeZone"]) == {"TimeZone": "Asia/Tokyo"}


# ---- errors that pass -----------------------------------------------------------------------------------------------


def error_of(action):
    with pytest.raises(psycopg.Error) as found:
        action()
    return found.value


def test_a_database_that_only_reads_is_away(database_setting):
    database_setting("default_transaction_read_only", "on")

    def write():
        with autocommit() as connection:
            connection.execute("CREATE TABLE refused ()")

    error = error_of(write)
    assert isinstance(error, pg_errors.ReadOnlySqlTransaction)
    assert is_away(error)


def test_a_send_to_a_database_that_only_reads_says_so(database_setting):
    send_job("order.created", ORDER)
    database_setting("default_transaction_read_only", "on")
    with pytest.raises(StoreError, match="takes no writes now"):
        send_job("order.created", ORDER)


def test_a_write_is_tried_until_the_database_takes_it(database_setting, administrator):
    database_setting("default_transaction_read_only", "on")
    tries = []

    def write():
        tries.append(1)
        if len(tries) == 3:
            administrator.execute("SET default_transaction_read_only TO off")
            database_setting("default_transaction_read_only", "off")
        with autocommit() as connection:
            connection.execute(f"CREATE TABLE taken_{os.getpid()} ()")

    postgres.retry_while_unavailable(write, 30)
    assert len(tries) == 3


def test_a_terminated_connection_is_away(administrator):
    def be_terminated():
        with autocommit() as connection:
            administrator.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
            connection.execute("SELECT 1")

    assert is_away(error_of(be_terminated))


def test_a_transaction_that_loses_to_another_one_is_made_again():
    with autocommit() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS counted (n int)")
        connection.execute("TRUNCATE counted")
    tries = []

    def count(inside=lambda: None):
        tries.append(1)
        with transaction() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            (n,) = connection.execute("SELECT count(*) FROM counted").fetchone()
            if len(tries) == 1:
                count()
            connection.execute("INSERT INTO counted VALUES (%s)", (n,))

    postgres.retry_conflicts(count)
    with autocommit() as connection:
        rows = connection.execute("SELECT n FROM counted ORDER BY n").fetchall()
    assert (rows, len(tries)) == ([(0,), (1,)], 3)


def test_no_more_connections_is_away(administrator):
    error = pg_errors.lookup("53300")("too many clients")
    assert is_away(error)


# ---- PgBouncer ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pooler(setting):
    """`start()`: PgBouncer in transaction mode, between us and the database."""
    with contextlib.ExitStack() as stack:

        def start(max_prepared_statements=0, **settings):
            of_pgbouncer = {}
            if max_prepared_statements:
                if pgbouncer.PGBOUNCER and pgbouncer.version() < (1, 21):
                    pytest.skip("this pgbouncer is older than 1.21 and follows no prepared statements")
                of_pgbouncer = {"max_prepared_statements": max_prepared_statements}
            url = stack.enter_context(pgbouncer.running_pgbouncer(get_settings().database, **of_pgbouncer))
            stack.callback(close_pools)
            setting(CGK_DATABASE_URL=url, **settings)

        yield start


def work_in_turns():
    """The same statements again and again on two connections, while others hold what they used before."""
    with autocommit() as first, autocommit() as second:
        for number in range(20):
            for connection in (first, second):
                connection.execute("SELECT %s::int", (number,))
            with transaction() as third:
                third.execute("SELECT 1")
                first.execute("SELECT %s::int", (number,))
    for number in range(12):
        send_job("order.created", ORDER, queue="behind-a-pooler", idempotency_key=f"pooler-{os.getpid()}-{number}")


def test_a_pooler_that_follows_prepared_statements_serves(pooler):
    pooler(max_prepared_statements=100, CGK_PREPARE_THRESHOLD="5")
    work_in_turns()
    assert [(one.check, one.level) for one in doctor_pooler()] == [("prepared statements", "OK")]


@pytest.mark.parametrize("told", [{}, {"CGK_PREPARE_THRESHOLD": "none"}], ids=["noticed", "told"])
def test_a_pooler_that_does_not_serves_without_them(pooler, told):
    pooler(**told)
    work_in_turns()
    assert [(one.check, one.level) for one in doctor_pooler()] == [("prepared statements", "OK")]


@pytest.mark.parametrize(
    "told",
    [{}, {"max_prepared_statements": 100, "CGK_PREPARE_THRESHOLD": "5"}],
    ids=["without prepared statements", "with them"],
)
def test_lone_sends_and_those_of_threads_go_through_a_pooler(pooler, told):
    pooler(**told)

    def send(_number):
        return send_job("order.created", ORDER, queue="pooled").id

    with ThreadPoolExecutor(8) as threads:
        sent = [send(number) for number in range(10)] + list(threads.map(send, range(60)))
    assert {get_run(run_id).state for run_id in sent} == {"pending"}


@pytest.mark.parametrize(
    "told",
    [{}, {"max_prepared_statements": 100, "CGK_PREPARE_THRESHOLD": "5"}],
    ids=["without prepared statements", "with them"],
)
def test_lone_runs_are_claimed_and_closed_through_a_pooler(pooler, told):
    pooler(**told)
    worker = str(uuid.uuid4())

    def execute(_number):
        run_id = send_job("order.created", ORDER, queue="pooled").id
        (run,) = store.claim([run_id], worker, 1)
        with autocommit() as connection:
            ends.finish(connection, worker, [Closing(run.id, "acme", run.attempt, "completed", result="1")])
        return just_ended([run_id])[run_id].result

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(execute, range(20))) == [1] * 20


def test_the_doctor_finds_a_pooler_that_loses_prepared_statements_and_says_what_to_set(pooler):
    pooler(CGK_PREPARE_THRESHOLD="5")
    (found,) = doctor_pooler()
    assert (found.level, "CGK_PREPARE_THRESHOLD=0" in found.advice) == ("FAIL", True)


@pytest.mark.parametrize(
    "told", [{}, {"CGK_PREPARE_THRESHOLD": "none"}, {"CGK_PREPARE_THRESHOLD": "0"}], ids=["noticed", "none", "0"]
)
def test_an_event_loop_sends_and_reads_through_a_pooler(pooler, told):
    pooler(**told)

    async def run():
        for _ in range(12):  # more often than it takes to have a statement prepared
            handles = await asyncio.gather(*(asend_job("order.created", ORDER, queue="pooled") for _ in range(8)))
        return await aget_run(handles[0].id)

    assert asyncio.run(run()).state == "pending"


def test_times_are_utc_behind_a_pooler(pooler):
    pooler(CGK_PREPARE_THRESHOLD="0")
    with autocommit() as connection:
        assert shown(connection, ["TimeZone"]) == {"TimeZone": "UTC"}
