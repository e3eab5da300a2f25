"""A run's rows and its end: its transaction leaves the tenant, ends the run and commits in one round trip."""

import os
import signal
import subprocess
import sys
from collections import Counter
from functools import partial

import psycopg
import pytest
from sqlalchemy import event as sa_event
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cgk_tasks import JobContext, define_job, send_job
from cgk_tasks.celery_app import app
from cgk_tasks.celery_tasks.canvas import CanvasFollow
from cgk_tasks.config import get_settings
from cgk_tasks.events import TenantEvent
from cgk_tasks.jobs.registry import find_job
from cgk_tasks.runs import store
from cgk_tasks.runs.ends import Closing
from cgk_tasks.sql import door, together
from cgk_tasks.sql.postgres import autocommit, close_pools, fetch, transaction
from cgk_tasks.sql.sqlalchemy_engine import engine
from cgk_tasks.tenancy import TenantSession, tenant_context
from cgk_tasks.tenancy import database as session_module
from cgk_tasks.worker import committing
from cgk_tasks.worker.attempt import Attempt
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.worker.outcome import Outcome
from cgk_tasks.worker.recorder import Recorder
from tests.support import pgbouncer
from tests.support.code_steps import act_at, stop
from tests.support.workers import ROOT

TABLES = """
CREATE TABLE tenant_acme.customers (id int PRIMARY KEY);
CREATE TABLE tenant_acme.addresses (
    customer int REFERENCES tenant_acme.customers (id) DEFERRABLE INITIALLY DEFERRED
);
"""


WHAT_IS_THERE = """
SELECT (SELECT count(*) FROM tenant_acme.orders WHERE run_id = %(id)s::text) AS rows,
       coalesce((SELECT state FROM cgk.run_history WHERE id = %(id)s::uuid),
                (SELECT state FROM cgk.runs WHERE id = %(id)s::uuid)) AS state
"""


class Written(TenantEvent, event="test.written"):
    """Whose runs the tests end themselves."""


@define_job("test-written", event=Written)
def written(_ctx: JobContext[Written]) -> None:
    pass


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(scope="module", autouse=True)
def tables(database):
    with autocommit() as connection:
        connection.execute(TABLES)


@pytest.fixture(autouse=True)
def nothing_written(tables):
    with autocommit() as connection:
        connection.execute("TRUNCATE tenant_acme.customers, tenant_acme.addresses, tenant_acme.orders")
    yield
    engine().dispose()


class Run:
    """A run that this process has claimed."""

    def __init__(self, **options):
        self.id = send_job(Written(tenant_id="acme"), queue="nobody-listens", **options).id
        (self.claimed,) = store.claim([self.id], worker_id(), os.getpid())

    def complete(self, work=None, **options):
        """Run a job that does this, after it has written a row. Returns what becomes of it."""
        run = self.claimed
        ctx = JobContext(
            job_id="test-written", run_id=run.id, event=run.event, tenant=run.tenant, payload=None, attempt=run.attempt
        )
        recorder = Recorder(worker_id(), CanvasFollow(app), **options)
        with tenant_context("acme"):
            write(ctx.db, self.id)
            if work is not None:
                work(ctx.db)
            attempt = Attempt(find_job("test-written"), ctx, recorder.end_of(run))
            outcome = recorder.record(run, attempt, Outcome("completed", result="1"))
            recorder.flush()
        return outcome

    def what_is_there(self):
        return what_is_there(self.id)


def what_is_there(run):
    """How many rows of it, and its state, both at the same moment."""
    with autocommit() as connection:
        (row,) = fetch(connection, WHAT_IS_THERE, {"id": run})
    return row["rows"], row["state"]


def write(session, run):
    session.execute(text("INSERT INTO orders (order_id, run_id) VALUES ('1', :run)"), {"run": run})


def take_over(run):
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET attempt = attempt + 1 WHERE id = %s", [run.id])


@pytest.fixture
def seen():
    """The names of the statements that this process has executed, of those that end runs."""
    names = []

    def note(statement, _seconds, _error):
        if statement.name.startswith("finish"):
            names.append(statement.name)

    door.observe(note)
    yield names
    door.forget_observer(note)


def driver_of(session):
    return session.connection().connection.driver_connection


@pytest.mark.parametrize("shares_flush", [False, True], ids=["alone", "in a packet"])
def test_they_are_there_together(shares_flush, seen):
    run = Run()
    assert run.complete(share_flush=shares_flush).kind == "completed"
    assert (run.what_is_there(), seen) == ((1, "completed"), ["finish_one_or_fail"])


def test_there_are_three_round_trips_to_postgresql(monkeypatch):
    """Begin as the tenant; the row; the end."""
    sent = []
    monkeypatch.setattr(
        session_module, "together", lambda *args: (sent.append("together"), together.together(*args))[1]
    )
    monkeypatch.setattr(session_module, "script", lambda *_args: sent.append("script"))
    Run().complete()
    assert sent == ["together", "together"]


def test_what_is_flushed_at_the_end_is_there_too():
    run = Run()
    run.complete(lambda session: session.add(Customer(id=1)))
    with autocommit() as connection:
        assert fetch(connection, "SELECT id FROM tenant_acme.customers") == [{"id": 1}]
    assert run.what_is_there() == (1, "completed")


def test_a_run_that_was_taken_over_has_written_nothing():
    run = Run()
    outcome = run.complete(lambda _session: take_over(run))
    assert (outcome.exception.__class__.__name__, run.what_is_there()) == ("StaleAttemptError", (0, "running"))


@pytest.mark.parametrize("work", [
    lambda session: session.execute(text("INSERT INTO addresses VALUES (9)")),
    lambda session: (session.execute(text("INSERT INTO customers VALUES (1)")), session.add(Customer(id=1))),
], ids=["deferred to the commit", "in the flush before it"])  # fmt: skip
def test_a_violated_constraint_is_the_runs_own_failure(work):
    run = Run(max_attempts=1)
    outcome = run.complete(work)
    assert (outcome.kind, run.what_is_there()[0]) == ("failed", 0)
    assert "constraint" in str(outcome.exception)


def test_a_division_by_zero_of_the_jobs_own_is_no_takeover():
    def defer(session):
        session.execute(text("CREATE FUNCTION divide() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN 1 / 0; END'"))
        session.execute(text(
            "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON customers DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION divide()"
        ))  # fmt: skip
        session.execute(text("INSERT INTO customers VALUES (1)"))

    run = Run()
    with autocommit() as connection:
        connection.execute("GRANT CREATE ON SCHEMA tenant_acme TO cgk_tenant_acme")
        connection.execute("ALTER TABLE tenant_acme.customers OWNER TO cgk_tenant_acme")
    assert isinstance(run.complete(defer).exception, psycopg.errors.DivisionByZero)


def test_the_next_run_works_after_one_that_was_rolled_back():
    first, second = Run(), Run()
    first.complete(lambda _session: take_over(first))
    second.complete()
    assert second.what_is_there() == (1, "completed")


class TestListeners:
    def test_those_before_the_commit_work_inside_the_tenant(self):
        roles = []

        def listen(session):
            look = text("SELECT current_user::text")
            sa_event.listen(session, "before_commit", lambda told: roles.append(told.execute(look).scalar_one()))

        run = Run()
        run.complete(listen)
        assert (roles, run.what_is_there()) == (["cgk_tenant_acme"], (1, "completed"))

    def test_those_after_it_find_what_is_there_for_good(self):
        found = []
        run = Run()
        run.complete(
            lambda session: sa_event.listen(session, "after_commit", lambda _told: found.append(run.what_is_there()))
        )
        assert found == [(1, "completed")]

    def test_those_after_a_commit_that_failed_are_not_told(self):
        told = []
        run = Run()

        def listen(session):
            sa_event.listen(session, "after_commit", told.append)
            take_over(run)

        run.complete(listen)
        assert told == []


def roll_back_a_part(session):
    with pytest.raises(ZeroDivisionError), driver_of(session).transaction():
        raise ZeroDivisionError


def let_go(session):
    session.execute(text("DEALLOCATE ALL"))


class TestWhatIsPrepared:
    @pytest.mark.parametrize("work", [roll_back_a_part, let_go])
    def test_a_job_that_lets_postgresql_forget_it_commits_all_the_same(self, work, seen):
        Run().complete()
        run = Run()

        def prepare_and_work(session):
            driver_of(session).execute("SELECT 1", prepare=True)
            work(session)
            driver_of(session).execute("SELECT 1")  # the driver lets go of everything after a rollback

        run.complete(prepare_and_work)
        assert run.what_is_there() == (1, "completed")
        assert seen[1:] == ["finish_one_or_fail", "finish_one"]

    def test_a_rollback_that_makes_postgresql_forget_it_costs_the_next_run_nothing(self):
        first, second = Run(), Run()
        first.complete(
            lambda session: (driver_of(session).execute("SELECT 1", prepare=True), take_over(first)),
        )
        assert second.complete().kind == "completed"
        assert second.what_is_there() == (1, "completed")

    def test_what_a_job_has_prepared_under_such_a_name_is_not_executed(self, seen):
        Run().complete()
        run = Run()

        def take_the_name(session):
            session.execute(text('DEALLOCATE "cgk_tasks.tenants.leave_role.0"'))
            session.execute(text('PREPARE "cgk_tasks.tenants.leave_role.0" AS INSERT INTO customers VALUES (7)'))

        run.complete(take_the_name)
        with autocommit() as connection:
            assert fetch(connection, "SELECT id FROM tenant_acme.customers") == []
        assert (run.what_is_there(), seen[1:]) == ((1, "completed"), ["finish_one"])

    def test_nothing_is_where_nothing_may_be(self, setting):
        setting(CGK_PREPARE_THRESHOLD="0")
        close_pools()
        names = "SELECT name FROM pg_prepared_statements WHERE name LIKE 'cgk_tasks.%'"
        found = []
        for _ in range(3):
            run = Run()
            run.complete(lambda session: found.extend(session.execute(text(names)).all()))
            assert run.what_is_there() == (1, "completed")
        assert found == []

    @pytest.mark.parametrize("told", [
        {"CGK_PREPARE_THRESHOLD": "0"}, {"max_prepared_statements": 100, "CGK_PREPARE_THRESHOLD": "5"},
    ], ids=["without prepared statements", "with them"])  # fmt: skip
    def test_it_works_through_a_pooler_that_gives_each_transaction_another_session(self, setting, told):
        of_pgbouncer = {name: value for name, value in told.items() if name.islower()}
        if of_pgbouncer and pgbouncer.PGBOUNCER and pgbouncer.version() < (1, 21):
            pytest.skip("this pgbouncer is older than 1.21 and follows no prepared statements")
        with pgbouncer.running_pgbouncer(get_settings().database, **of_pgbouncer) as url:
            setting(CGK_DATABASE_URL=url, CGK_PREPARE_THRESHOLD=told["CGK_PREPARE_THRESHOLD"])
            runs = [Run() for _ in range(12)]
            for run, other in zip(runs[::2], runs[1::2], strict=True):
                run.complete(lambda _session, other=other: other.complete())  # on two connections, one amid the other
            found = [run.what_is_there() for run in runs]
            close_pools()
        assert found == [(1, "completed")] * 12


class TestWhereSomethingFollows:
    def test_a_childs_end_is_counted_in_its_transaction(self, seen):
        parent, child = Run(), Run()
        with autocommit() as connection:
            connection.execute("UPDATE cgk.runs SET children_open = 1, worker_id = NULL WHERE id = %s", [parent.id])
            connection.execute("UPDATE cgk.runs SET parent_id = %s WHERE id = %s", [parent.id, child.id])
        child.claimed = child.claimed._replace(parent_id=parent.id)
        child.complete()
        assert (child.what_is_there(), parent.what_is_there()[1]) == ((1, "completed"), "completed")
        assert seen == ["finish_one"]

    def test_a_process_that_dies_between_an_end_and_its_commit_can_be_tested(self, seen):
        run = Run()

        def observer(*_arguments):
            pass

        def die(statement, _values):
            if statement.name == "finish_one":
                assert run.what_is_there() == (0, "running")

        door.observe(observer, before=die)
        try:
            run.complete()
        finally:
            door.forget_observer(observer)
        assert (seen, run.what_is_there()) == (["finish_one"], (1, "completed"))


def end_of(run):
    """What a recorder has a session commit with. It is not asked to do without."""

    def closing():
        claimed = run.claimed
        return Closing(claimed.id, claimed.tenant_id, claimed.attempt, "completed", "test-written", "1")

    def refuse(_connection):
        raise AssertionError("it was to be sent with the COMMIT")

    return refuse, committing._last(worker_id(), closing, flush=False)


def nothing_is_left_open():
    """The next session has a connection at rest, and no other one keeps a lock."""
    with tenant_context("acme") as tenant, TenantSession(tenant) as session:
        assert session.execute(text("SELECT 41 + 1")).scalar_one() == 42
    with transaction() as connection:
        connection.execute("SET LOCAL lock_timeout = '20s'")  # a connection that was closed ends a moment later
        connection.execute("LOCK TABLE tenant_acme.orders IN ACCESS EXCLUSIVE MODE")


class TestInterruptions:
    """An exception at any step: of a time limit, or of a worker that stops."""

    def test_what_is_interrupted_while_it_ends_is_there_whole_or_not_at_all(self):
        found = set()
        step, goes_on = 1, True
        while goes_on:
            run = Run()
            with tenant_context("acme") as tenant, TenantSession(tenant) as session:
                write(session, run.id)
                end = partial(session.commit_with, *end_of(run))
                goes_on = act_at(step, stop, end, together, session_module)
            nothing_is_left_open()
            found.add(run.what_is_there())
            step += 1
        assert found == {(0, "running"), (1, "completed")}
        assert step > 30

    def test_a_session_that_is_interrupted_while_it_begins_leaves_nothing_open(self):
        step, goes_on = 1, True
        while goes_on:
            with tenant_context("acme") as tenant, TenantSession(tenant) as session:
                goes_on = act_at(step, stop, session.connection, together, session_module)
            nothing_is_left_open()
            step += 1
        assert step > 30


KILLED = """
import os, signal
import tests.integration.test_ends_with_rows as tests

for step in range(1, 1000):
    child = os.fork()
    if child == 0:
        tests.end_and_die_at(step)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def end_and_die_at(step):
    """In a process of its own, which is killed at this step, if there are so many."""
    run = Run()
    print(run.id, flush=True)
    with tenant_context("acme") as tenant, TenantSession(tenant) as session:
        write(session, run.id)
        end = partial(session.commit_with, *end_of(run))
        act_at(step, lambda: os.kill(os.getpid(), signal.SIGKILL), end, together, session_module)


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_step_leaves_both_or_neither():
    done = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, check=True, env=os.environ, cwd=ROOT
    )
    nothing_is_left_open()
    runs = done.stdout.split()
    found = Counter(what_is_there(run) for run in runs)
    assert set(found) == {(0, "running"), (1, "completed")}
    assert len(runs) > 30
