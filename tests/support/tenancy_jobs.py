"""Jobs that try to reach another tenant's data, in all the ways a mistake could."""

import asyncio
import threading
import time

from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from cgk_tasks import (
    JobContext,
    RetryConfig,
    define_job,
    send_job,
    tenant_cache,
    tenant_context,
    tenant_storage_path,
)
from cgk_tasks.errors import IdempotencyConflictError, StaleAttemptError, TenantError
from cgk_tasks.events import TenantEvent
from cgk_tasks.sql.postgres import transaction
from cgk_tasks.tenancy import tenant_session
from cgk_tasks.tenancy.context import find_current_tenant

ONCE = RetryConfig(max_attempts=1)


class Probe(TenantEvent, event="test.probe"):
    """Asks for one statement, in one of several ways."""

    how: str
    statement: str = ""
    beside: int = 1


@define_job("test-probe", event=Probe, retry=ONCE, timeout=30)
def probe(ctx: JobContext[Probe]) -> object:
    return HOW[ctx.payload.how](ctx)


def rows(session, statement: str) -> object:
    """The rows, or the name of PostgreSQL's error."""
    try:
        with session.begin_nested():
            result = session.execute(text(statement))
            return [list(row) for row in result] if result.returns_rows else []
    except DBAPIError as exc:
        return type(exc.orig).__name__


def _query(ctx):
    return rows(ctx.db, ctx.payload.statement)


def _query_after_an_error(ctx):
    """The transaction broke, the job rolled it back and went on."""
    try:
        ctx.db.execute(text("SELECT * FROM no_such_table"))
    except ProgrammingError:
        ctx.db.rollback()
    return rows(ctx.db, ctx.payload.statement)


def _fail_half_way(ctx):
    ctx.db.execute(text(ctx.payload.statement))
    raise ValueError("half way")


def _end_the_transaction(ctx):
    """Writes, ends the transaction with a statement that nobody sees through, and goes on as if nothing were."""
    ctx.db.execute(text("INSERT INTO secrets VALUES ('half')"))
    ctx.db.connection().exec_driver_sql("/* done */ COMMIT")
    try:
        return rows(ctx.db, ctx.payload.statement)
    except TenantError:
        ctx.db.rollback()
        return "went on"


def _listen_before_the_commit(ctx):
    """Writes in a hook of SQLAlchemy's, as an application's audit does."""
    event.listen(ctx.db, "before_commit", lambda session: session.execute(text(ctx.payload.statement)))
    ctx.db.execute(text("SELECT 1"))


def _catch_a_lost_checkpoint(ctx):
    """The run was taken from this attempt; the job catches the error and goes on."""
    ctx.db.execute(text("SELECT 1"))
    with transaction() as connection:
        connection.execute("UPDATE cgk.runs SET attempt = attempt + 1 WHERE id = %s", (ctx.run_id,))
    try:
        ctx.checkpoint("here")
    except StaleAttemptError:
        seen = rows(ctx.db, "SELECT current_setting('cgk.tenant_id', true), current_schema()::text")
    with transaction() as connection:
        connection.execute("UPDATE cgk.runs SET attempt = attempt - 1 WHERE id = %s", (ctx.run_id,))
    return seen


def _who(ctx):
    """What a run sees of its surroundings: nothing of the run before it."""
    with tenant_session() as session:
        settings = session.execute(text("SELECT current_setting('cgk.tenant_id'), current_schema()")).one()
    return {"tenant": find_current_tenant().id, "setting": settings[0], "schema": settings[1]}


def _forget_to_leave_a_context(ctx):
    tenant_context(ctx.tenant).__enter__()
    return ctx.tenant_id


def _another_tenants_context(ctx):
    try:
        with tenant_context(ctx.payload.statement):
            return "entered"
    except TenantError as exc:
        return type(exc).__name__


def _cache(ctx):
    before = tenant_cache().get("probe")
    tenant_cache().set("probe", ctx.tenant_id, seconds=60)
    return [before.decode() if before else None, tenant_cache().get("probe").decode()]


def _storage(ctx):
    tenant_storage_path("note.txt").write_text(ctx.tenant_id)
    return str(tenant_storage_path("note.txt"))


_present: set[str] = set()
_all_here = threading.Condition()


def _beside_others(ctx):
    """Looks at its own rows again and again while jobs of other tenants do the same in this process."""
    _arrive(ctx)
    seen = set()
    give_up = time.monotonic() + 10
    with _all_here:
        assert _all_here.wait_for(lambda: len(_present) >= ctx.payload.beside, timeout=10)
    for _ in range(30):
        assert time.monotonic() < give_up
        with tenant_session() as session:
            seen.update(session.execute(text(ctx.payload.statement)).scalars())
        seen.add(find_current_tenant().id)
    return sorted(seen)


def _arrive(ctx):
    with _all_here:
        _present.add(ctx.run_id)
        _all_here.notify_all()


def _send_in_the_same_transaction(ctx):
    """Sends with its own session, once well and once in vain, and shows that the session is as confined as before."""
    follow = Probe(tenant_id=ctx.tenant_id, how="query", statement=ctx.payload.statement)
    key = f"{ctx.run_id}-follow"
    handle = send_job(follow, session=ctx.db, idempotency_key=key)
    try:
        send_job(follow.model_copy(update={"how": "who"}), session=ctx.db, idempotency_key=key)
    except IdempotencyConflictError:
        return [handle.id, rows(ctx.db, "SELECT * FROM cgk.runs"), rows(ctx.db, ctx.payload.statement)]
    raise AssertionError("the key was taken twice")


HOW = {
    "send_in_the_same_transaction": _send_in_the_same_transaction,
    "query": _query,
    "query_after_an_error": _query_after_an_error,
    "fail_half_way": _fail_half_way,
    "who": _who,
    "end_the_transaction": _end_the_transaction,
    "listen_before_the_commit": _listen_before_the_commit,
    "catch_a_lost_checkpoint": _catch_a_lost_checkpoint,
    "forget_to_leave_a_context": _forget_to_leave_a_context,
    "another_tenants_context": _another_tenants_context,
    "cache": _cache,
    "storage": _storage,
    "beside_others": _beside_others,
}


class AsyncProbe(TenantEvent, event="test.probeAsync"):
    """An `async def` job that yields to others between its statements."""

    statement: str
    beside: int


@define_job("test-probe-async", event=AsyncProbe, retry=ONCE, timeout=30)
async def probe_async(ctx: JobContext[AsyncProbe]) -> list[str]:
    _arrive(ctx)
    give_up = time.monotonic() + 10
    while len(_present) < ctx.payload.beside:
        assert time.monotonic() < give_up, "the other job did not come"
        await asyncio.sleep(0.005)
    seen = set()
    for _ in range(30):
        seen.update(ctx.db.execute(text(ctx.payload.statement)).scalars())
        await asyncio.sleep(0)
        with tenant_session() as session:
            seen.update(session.execute(text(ctx.payload.statement)).scalars())
        await asyncio.sleep(0)
        seen.add(find_current_tenant().id)
    return sorted(seen)


class ProbeTelemetry(TenantEvent, event="test.probeTelemetry", durable=False):
    """Telemetry runs for its tenant too."""

    key: str


@define_job("test-probe-telemetry", event=ProbeTelemetry, retry=ONCE)
def probe_telemetry(ctx: JobContext[ProbeTelemetry]) -> None:
    tenant_cache().set(ctx.payload.key, find_current_tenant().id, seconds=60)
