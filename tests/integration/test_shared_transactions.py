"""Runs that share a transaction: each has its own part of it, which is committed together with the run's end."""

import os
from contextlib import suppress

import pytest
from sqlalchemy import event as sa_event
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cgk_tasks import define_job, get_run, send_job
from cgk_tasks.errors import ConfigurationError, StaleAttemptError, TenantContextError
from cgk_tasks.events import TenantEvent
from cgk_tasks.runs import store
from cgk_tasks.runs.ends import Closing
from cgk_tasks.sql.postgres import autocommit, fetch, transaction
from cgk_tasks.tenancy import tenant_context
from cgk_tasks.worker import shared_transaction
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.worker.shared_transaction import SharedTransaction, is_apart

TABLES = """
CREATE TABLE tenant_acme.customers (id int PRIMARY KEY);
CREATE TABLE tenant_acme.addresses (
    customer int REFERENCES tenant_acme.customers (id) DEFERRABLE INITIALLY DEFERRED
);
"""


class Shared(TenantEvent, event="test.shared_transaction"):
    """Of which nobody has a job."""


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
def nothing_written(tables, monkeypatch):
    monkeypatch.setattr(shared_transaction, "_apart_until", {})
    with autocommit() as connection:
        connection.execute("TRUNCATE tenant_acme.customers, tenant_acme.addresses, tenant_acme.orders")
        connection.execute("TRUNCATE tenant_globex.orders")
    yield
    end_sessions()  # of a test that failed: its locks would keep the next one waiting


class Packet:
    """Runs that this process has claimed, and the transaction that they share."""

    def __init__(self, *tenants):
        ids = [send_job(Shared(tenant_id=tenant), queue="nobody-listens").id for tenant in tenants]
        self.runs = store.claim(ids, worker_id(), os.getpid())
        self.put_back = []
        self.shared = SharedTransaction(worker_id(), self.put_back.extend)

    def run(self, number, *statements, work=None):
        """Run a job that executes this, as far as the pipeline does."""
        run = self.runs[number]
        with tenant_context(run.tenant_id):
            session = self.shared.open(run.tenant)
            try:
                for statement in statements:
                    session.execute(text(statement))
                if work is not None:
                    work(session)
                self.shared.keep(run, Closing(run.id, run.tenant_id, run.attempt, "completed", "job", "null"))
            finally:
                session.close()

    def states(self):
        return [get_run(run.id).state for run in self.runs]


def end_sessions():
    """Of this database, those amid a transaction."""
    with autocommit() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' "
            "AND datname = current_database()"
        )


def note(text_):
    return f"INSERT INTO orders (order_id, note) VALUES ('1', '{text_}')"


def notes(tenant="acme"):
    with autocommit() as connection:
        return [row["note"] for row in fetch(connection, f"SELECT note FROM tenant_{tenant}.orders ORDER BY note")]


def test_what_they_write_is_there_together_with_their_ends():
    packet = Packet("acme", "acme")
    packet.run(0, note("a"))
    packet.run(1, note("b"))
    before = notes(), packet.states()
    packet.shared.end()
    assert (before, notes(), packet.states()) == (([], ["running"] * 2), ["a", "b"], ["completed"] * 2)


def test_a_run_that_fails_takes_back_what_it_wrote_and_nothing_else():
    packet = Packet("acme", "acme", "acme")
    packet.run(0, note("a"))
    with pytest.raises(IntegrityError):
        packet.run(1, note("b"), "INSERT INTO orders (order_id) VALUES (NULL)")
    packet.run(2, note("c"))
    packet.shared.end()
    assert (notes(), packet.states(), packet.put_back) == (["a", "c"], ["completed", "running", "completed"], [])


def test_the_first_one_may_fail():
    packet = Packet("acme", "acme")
    with pytest.raises(IntegrityError):
        packet.run(0, note("a"), "INSERT INTO orders (order_id) VALUES (NULL)")
    packet.run(1, note("b"))
    packet.shared.end()
    assert (notes(), packet.put_back) == (["b"], [])


def test_one_that_opens_a_session_and_executes_nothing_ends_with_the_others():
    packet = Packet("acme", "acme", "acme")
    packet.run(0)
    packet.run(1, note("b"))
    packet.run(2)
    packet.shared.end()
    assert (notes(), packet.states()) == (["b"], ["completed"] * 3)


def test_an_error_that_the_job_caught_fails_it_as_in_a_transaction_of_its_own():
    def swallow(session):
        with pytest.raises(IntegrityError):
            session.execute(text("INSERT INTO orders (order_id) VALUES (NULL)"))

    packet = Packet("acme", "acme")
    packet.run(0, note("a"))
    with pytest.raises(Exception, match="aborted"):
        packet.run(1, note("b"), work=swallow)
    packet.shared.end()
    assert notes() == ["a"]


def test_a_part_that_may_fail_alone_does():
    def attempt(session):
        with suppress(IntegrityError), session.begin_nested():
            session.execute(text(note("in vain")))
            session.execute(text("INSERT INTO orders (order_id) VALUES (NULL)"))
        session.execute(text(note("after")))

    packet = Packet("acme")
    packet.run(0, work=attempt)
    packet.shared.end()
    assert notes() == ["after"]


def test_a_part_that_is_left_open_is_kept():
    packet = Packet("acme", "acme")
    packet.run(0, work=lambda session: (session.begin_nested(), session.execute(text(note("a")))))
    packet.run(1, note("b"))
    packet.shared.end()
    assert notes() == ["a", "b"]


def test_what_a_job_rolls_back_itself_is_its_own():
    packet = Packet("acme", "acme")
    packet.run(0, note("a"))
    packet.run(1, note("in vain"), work=lambda session: (session.rollback(), session.execute(text(note("b")))))
    packet.shared.end()
    assert (notes(), packet.states()) == (["a", "b"], ["completed"] * 2)


def test_the_first_one_may_roll_back_itself_too():
    packet = Packet("acme")
    packet.run(0, note("in vain"), work=lambda session: (session.rollback(), session.execute(text(note("a")))))
    packet.shared.end()
    assert (notes(), packet.states()) == (["a"], ["completed"])


def test_a_job_must_not_commit():
    packet = Packet("acme", "acme")
    packet.run(0, note("a"))
    with pytest.raises(TenantContextError, match="was asked to commit"):
        packet.run(1, note("b"), work=lambda session: session.commit())
    packet.shared.end()
    assert (notes(), packet.states()) == (["a"], ["completed", "running"])


def test_objects_of_one_run_are_not_those_of_the_next():
    kept = []

    def load(session):
        kept.append(session.get(Customer, 1) or session.merge(Customer(id=1)))

    packet = Packet("acme", "acme")
    packet.run(0, work=load)
    packet.run(1, work=load)
    packet.shared.end()
    assert kept[0] is not kept[1]


class TestDeferredConstraints:
    def test_one_that_is_violated_fails_its_run_alone(self):
        packet = Packet("acme", "acme", "acme")
        packet.run(0, note("a"))
        with pytest.raises(Exception, match="addresses_customer_fkey"):
            packet.run(1, "INSERT INTO addresses VALUES (9)")
        packet.run(2, note("c"))
        packet.shared.end()
        assert (notes(), packet.states()) == (["a", "c"], ["completed", "running", "completed"])

    def test_they_stay_deferred_for_each_run(self):
        packet = Packet("acme", "acme")
        for number in range(2):
            statements = f"INSERT INTO addresses VALUES ({number})", f"INSERT INTO customers VALUES ({number})"
            packet.run(number, *statements)
        packet.shared.end()
        assert packet.states() == ["completed"] * 2


class TestALostTransaction:
    """Nothing of it is there, and its runs run again, each in a transaction of its own."""

    def lost(self, packet, *numbers):
        assert notes() == []
        assert packet.put_back == [packet.runs[number] for number in numbers]
        assert is_apart("test.shared_transaction")

    def test_a_run_was_taken_over_meanwhile(self):
        packet = Packet("acme", "acme")
        packet.run(0, note("a"))
        packet.run(1, note("b"))
        with autocommit() as connection:
            connection.execute("UPDATE cgk.runs SET attempt = attempt + 1 WHERE id = %s", [packet.runs[1].id])
        packet.shared.end()
        self.lost(packet, 0, 1)

    def test_the_connection_was_lost(self):
        packet = Packet("acme", "acme")
        packet.run(0, note("a"))
        end_sessions()
        packet.shared.end()
        self.lost(packet, 0)

    def test_the_connection_was_lost_while_a_run_used_it(self):
        packet = Packet("acme", "acme", "acme")
        packet.run(0, note("a"))
        with pytest.raises(OperationalError):
            packet.run(1, note("b"), work=lambda session: (end_sessions(), session.execute(text(note("c")))))
        packet.shared.end()
        self.lost(packet, 0)

    def test_a_job_rolled_all_back_while_something_listened_to_its_session(self):
        def roll_back(session):
            sa_event.listen(session, "after_commit", lambda _session: None)
            session.rollback()
            session.execute(text(note("b")))

        packet = Packet("acme", "acme")
        packet.run(0, note("a"))
        with pytest.raises(StaleAttemptError):
            packet.run(1, work=roll_back)
        self.lost(packet, 0)
        with transaction() as connection:  # nobody holds a lock any more
            connection.execute("LOCK TABLE tenant_acme.orders IN ACCESS EXCLUSIVE MODE NOWAIT")

    def test_sqlalchemy_rolled_all_back_because_it_could_not_write_an_object(self):
        packet = Packet("acme", "acme", "acme")
        packet.run(0, note("a"))
        with pytest.raises(IntegrityError):
            packet.run(1, "INSERT INTO customers VALUES (1)", work=lambda session: session.add(Customer(id=1)))
        packet.shared.end()
        self.lost(packet, 0)

    @pytest.mark.parametrize("statements", [[], [note("b")]], ids=["and nothing more", "and wrote"])
    def test_a_job_rolled_all_back_past_its_session(self, statements):
        def roll_back(session):
            session.get_transaction().rollback()
            for statement in statements:
                session.execute(text(statement))

        packet = Packet("acme", "acme")
        packet.run(0, note("a"))
        with pytest.raises(Exception, match="savepoint"):
            packet.run(1, work=roll_back)
        packet.shared.end()
        self.lost(packet, 0)

    def test_a_job_ended_it_by_its_own_sql(self):
        packet = Packet("acme", "acme")
        packet.run(0, note("a"))
        with pytest.raises(TenantContextError):
            packet.run(1, "ROLLBACK")
        packet.shared.end()
        assert (notes(), packet.put_back) == (["a"], [])  # it was refused, and nothing is lost


def test_what_listens_to_a_session_is_told_at_once_and_learns_of_what_is_there_for_good():
    told = []
    packet = Packet("acme", "acme")
    packet.run(0, note("a"))
    packet.run(
        1, note("b"), work=lambda session: sa_event.listen(session, "after_commit", lambda _: told.extend(notes()))
    )
    assert (told, packet.states()) == (["a", "b"], ["completed"] * 2)


def test_a_run_of_another_tenant_ends_it():
    packet = Packet("acme", "globex", "acme")
    packet.run(0, note("a"))
    packet.run(1, note("b"))
    between = notes(), notes("globex")
    packet.run(2, note("c"))
    packet.shared.end()
    assert (between, notes(), notes("globex")) == ((["a"], []), ["a", "c"], ["b"])


def test_there_are_no_more_runs_in_it_than_postgresql_keeps_savepoints_in_memory(monkeypatch):
    monkeypatch.setattr(shared_transaction, "_MOST_RUNS", 2)
    packet = Packet("acme", "acme", "acme")
    for number in range(3):
        packet.run(number, note(str(number)))
    before = notes()
    packet.shared.end()
    assert (before, notes()) == (["0", "1"], ["0", "1", "2"])


def test_without_runs_there_is_nothing_to_end():
    packet = Packet()
    packet.shared.end()
    assert packet.put_back == []


@pytest.mark.parametrize("options", [{"transaction": "both"}, {"transaction": "shared", "redelivery": False}])
def test_what_cannot_be_shared_is_refused_where_the_job_is_defined(options):
    with pytest.raises(ConfigurationError, match="transaction"):
        define_job("never-shared", event=Shared, **options)
