"""A tenant's session runs no statement outside of its tenant, and leaves nothing on its connection for the next one."""

import pytest
import sqlalchemy as sa
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from cgk_tasks import tenant_context, tenant_session
from cgk_tasks.errors import TenantContextError
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.sql.sqlalchemy_engine import engine
from cgk_tasks.tenancy import TenantSession

pytestmark = pytest.mark.usefixtures("database")

WHERE = "SELECT current_setting('cgk.tenant_id', true), current_schema()::text, current_user::text"
INSIDE = ("acme", "tenant_acme", "cgk_tenant_acme")


@pytest.fixture
def session():
    with tenant_context("acme") as tenant, TenantSession(tenant) as session:
        yield session


def where(session):
    return tuple(session.execute(text(WHERE)).one())


ENDINGS = [
    "COMMIT", "commit;", "  COMMIT WORK", "END", "ROLLBACK", "ABORT", "ROLLBACK AND CHAIN", "COMMIT AND CHAIN",
    "PREPARE TRANSACTION 'x'", "ROLLBACK TRANSACTION",
]  # fmt: skip


@pytest.mark.parametrize("statement", ENDINGS)
def test_a_statement_that_would_end_the_transaction_is_refused(session, statement):
    with pytest.raises(TenantContextError, match="end its transaction"):
        session.execute(text(statement))
    assert where(session) == INSIDE


HIDDEN = ["/* so */ COMMIT", "SELECT 1; COMMIT", "COMMIT /**/; BEGIN", "/**/ COMMIT AND CHAIN", "/**/ ROLLBACK"]


@pytest.mark.parametrize("statement", HIDDEN)
def test_after_the_transaction_was_ended_all_the_same_nothing_more_runs(session, statement):
    where(session)
    try:
        session.connection().exec_driver_sql(statement)
    except TenantContextError:
        return
    for _ in range(2):
        with pytest.raises(TenantContextError, match="not exactly once"):
            where(session)


def test_after_the_driver_ended_the_transaction_and_began_another_nothing_more_runs(session):
    where(session)
    driver = session.connection().connection.driver_connection
    driver.commit()
    driver.execute("SELECT 1")
    with pytest.raises(TenantContextError, match="not exactly once"):
        where(session)


@pytest.mark.parametrize("follows", ["commit", "rollback_and_commit"])
def test_a_transaction_that_was_ended_is_not_committed_as_if_nothing_were(session, follows):
    where(session)
    session.connection().connection.driver_connection.commit()
    if follows == "rollback_and_commit":
        with pytest.raises(TenantContextError):
            where(session)
        session.rollback()
    with pytest.raises(TenantContextError, match="not exactly once"):
        session.commit_with(lambda connection: None)


def test_autocommit_is_refused(session):
    with pytest.raises(TenantContextError, match="AUTOCOMMIT"):
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})


def test_an_engine_with_autocommit_is_refused():
    with tenant_context("acme") as tenant:
        bound = engine().execution_options(isolation_level="AUTOCOMMIT")
        with TenantSession(tenant, bound) as session, pytest.raises(TenantContextError, match="AUTOCOMMIT"):
            where(session)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_another_isolation_level_works_inside_the_tenant(session, level):
    session.connection(execution_options={"isolation_level": level})
    assert where(session) == INSIDE


def test_savepoints_and_their_rollback_work(session):
    with pytest.raises(sa.exc.DBAPIError), session.begin_nested():
        session.execute(text("SELECT * FROM nowhere"))
    session.execute(text("SAVEPOINT own"))
    session.execute(text("ROLLBACK TO SAVEPOINT own"))
    assert where(session) == INSIDE


def test_a_job_may_name_its_connection(session):
    session.execute(text("SET LOCAL application_name = 'mine'"))
    assert where(session) == INSIDE


def test_what_listens_before_the_commit_works_inside_the_tenant(session):
    seen, written = [], []

    @event.listens_for(session, "before_commit")
    def look(told: Session) -> None:
        seen.append(where(told))

    session.commit_with(lambda connection: written.append(connection.execute("SELECT current_user").fetchone()))
    assert (seen, written != [("cgk_tenant_acme",)]) == ([INSIDE], True)


def test_a_write_at_the_commit_that_fails_leaves_the_session_inside_its_tenant(session):
    session.execute(text("INSERT INTO orders (order_id) VALUES ('lost-with-it')"))
    with pytest.raises(ZeroDivisionError):
        session.commit_with(lambda connection: 1 / 0)
    assert where(session) == INSIDE
    assert session.execute(text("SELECT count(*) FROM orders WHERE order_id = 'lost-with-it'")).scalar_one() == 0


def test_other_sessions_of_the_engine_may_end_their_transactions(session):
    where(session)
    session.close()
    with engine().connect() as connection:
        connection.exec_driver_sql("COMMIT")


# What a job leaves


@pytest.fixture
def one_connection(database):
    """An engine with a single connection, which all sessions share one after another."""
    from cgk_tasks.sql.connecting import CONNECT_WITH, Preparing, connect
    from cgk_tasks.sql.urls import parameters

    values = CONNECT_WITH | parameters(database)
    made = sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(values, preparing=Preparing(5, None)),
        pool_size=1,
        max_overflow=0,
    )
    yield made
    made.dispose()


_ADVISORY = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"

LEFT = {
    "DECLARE c CURSOR WITH HOLD FOR SELECT 'secret' AS it": "SELECT count(*) FROM pg_cursors",
    "SET default_transaction_read_only = on": "SELECT count(*) FROM pg_settings "
    "WHERE name = 'default_transaction_read_only' AND setting = 'on'",
    "SELECT set_config('cgk.other', 'left', false)": "SELECT count(*) WHERE current_setting('cgk.other', true) <> ''",
    "DO $$BEGIN PERFORM set_config('statement_timeout', '1234', false); END$$": "SELECT count(*) FROM pg_settings "
    "WHERE name = 'statement_timeout' AND setting = '1234'",
    "SELECT pg_advisory_lock(77)": _ADVISORY,
    "SELECT pg_try_advisory_lock_shared(77)": _ADVISORY,
    "LISTEN heard": "SELECT count(*) FROM pg_listening_channels()",
    "PREPARE mine AS SELECT 1": "SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'",
    "CREATE TEMP TABLE mine (it text)": "SELECT count(*) FROM pg_class WHERE relname = 'mine'",
}


@pytest.mark.parametrize("ends", ["commit", "rollback"])
@pytest.mark.parametrize("left", LEFT)
def test_what_a_job_leaves_does_not_reach_the_next_tenant(one_connection, left, ends):
    with transaction() as connection:
        (database,) = connection.execute("SELECT current_database()").fetchone()
        connection.execute(f'GRANT TEMPORARY ON DATABASE "{database}" TO "cgk_tenant_acme"')
    with tenant_context("acme") as tenant, TenantSession(tenant, one_connection) as session:
        session.execute(text(left))
        getattr(session, ends)()
    with tenant_context("globex") as tenant, TenantSession(tenant, one_connection) as session:
        assert session.execute(text(LEFT[left])).scalar_one() == 0


def test_a_job_that_leaves_nothing_keeps_its_connection_and_its_prepared_statements(one_connection):
    pids, prepared = set(), 0
    for name in ("acme", "globex") * 4:
        with tenant_context(name) as tenant, TenantSession(tenant, one_connection) as session:
            pids.add(session.execute(text("SELECT pg_backend_pid() + 0 * :n"), {"n": 1}).scalar_one())
            prepared = session.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
            session.commit()
    assert (len(pids), prepared > 0) == (1, True)


def test_settings_left_by_a_job_do_not_outlive_its_commit():
    with tenant_context("acme"), tenant_session() as session:
        session.execute(text("SET statement_timeout = '4321ms'"))
    with tenant_context("globex"), tenant_session() as session:
        assert session.execute(text("SELECT current_setting('statement_timeout')")).scalar_one() != "4321ms"
