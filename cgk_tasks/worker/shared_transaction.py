"""One transaction for runs of a packet that write rows: of jobs with `transaction="shared"`, and of one tenant.

    BEGIN; enter the tenant
    run 1     SAVEPOINT
    run 2     RELEASE; SAVEPOINT
    run 3     fails: ROLLBACK TO SAVEPOINT
    ...
    leave the tenant; finish 1, 2, ...; COMMIT

What a run writes and its completion still commit together, so each is there once. Where the whole of it is rolled back,
its runs run again, each in a transaction of its own for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import sqlalchemy as sa
import structlog

from cgk_tasks.errors import StaleAttemptError, TenantContextError
from cgk_tasks.runs import ends
from cgk_tasks.runs.ends import Closing
from cgk_tasks.runs.store import Claimed
from cgk_tasks.runs.text import text_of
from cgk_tasks.sql.postgres import AnyConnection, script
from cgk_tasks.tenancy.context import reset_current_tenant, set_current_tenant
from cgk_tasks.tenancy.database import TenantSession

if TYPE_CHECKING:
    from cgk_tasks.tenancy.models import Tenant

log = structlog.get_logger("cgk_tasks.runs")

# Fewer than PostgreSQL remembers of a transaction's savepoints in shared memory (64): with more, others would look for
# them on disk.
_MOST_RUNS: Final = 50
_APART_SECONDS: Final = 60.0
"""So long do the runs of an event have transactions of their own after a shared one was lost."""

# The check is rolled back, because nothing else makes constraints deferred again as they were declared. Those that were
# checked are checked again at the end. What the first run's check is rolled back to is the second one's savepoint, too;
# behind it, that of the run which ends is released, and with it whatever is inside. Where there is none any more, what
# the others wrote has gone with it, and PostgreSQL says so.
_FIRST: Final = b"SAVEPOINT cgk_run; SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK TO cgk_run"
_NEXT: Final = (
    b"SAVEPOINT cgk_check; SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK TO cgk_check; RELEASE cgk_run; SAVEPOINT cgk_run"
)
_BACK: Final = b"ROLLBACK TO cgk_run"

_apart_until: dict[str, float] = {}


class SharedSession(TenantSession):
    """What `ctx.db` is for one run after another. To a job it looks like its own: what it rolls back, and what is taken
    back when it fails, is what this run has written.

    is_lost: whether what earlier runs wrote is rolled back.
    """

    def __init__(self, tenant: Tenant) -> None:
        super().__init__(tenant)
        self.is_lost = False
        self._is_in_run = self._has_savepoint = self._ends = False

    @property
    def _driver(self) -> psycopg.Connection[Any]:
        found = self.guard.driver if self.guard is not None else None
        assert found is not None  # the engine is ours, and the transaction has begun
        return found

    def begin_run(self) -> None:
        """A run begins to use it."""
        if not self._has_savepoint:
            self.begin()
        self._is_in_run = True

    def keep_run(self) -> None:
        """What the run wrote is to be committed. Raises what PostgreSQL, or SQLAlchemy, has against it."""
        while (nested := self.get_nested_transaction()) is not None:
            nested.commit()
        self.flush()
        transaction = self.get_transaction()
        if not self._has_savepoint or transaction is None or not transaction.is_active:
            self.connection()  # begins one for a run that has executed nothing, or raises why there is none
        assert self.guard is not None  # set when the transaction began
        self.guard.require()
        script(self._driver, _NEXT if self._has_savepoint else _FIRST)
        self._is_in_run, self._has_savepoint = False, True
        if len(self.identity_map):  # most jobs have none, of which `expunge_all` would make sure at some length
            self.expunge_all()

    def close(self) -> None:
        """The run leaves it. If it was not kept, it has written nothing."""
        if not self._is_in_run:
            return
        self._is_in_run = False
        if not self._goes_back():
            self.is_lost = True
            super().close()

    def rollback(self) -> None:
        """Roll back what this run has written; all, where nothing else is possible."""
        if not self._goes_back():
            self.is_lost = self.is_lost or self._has_savepoint
            self._has_savepoint = False
            super().rollback()

    def commit(self) -> None:
        """Refused to jobs: it would commit what other runs wrote, without their ends."""
        if not self._ends:
            raise TenantContextError(
                'ctx.db of a job with transaction="shared" was asked to commit.',
                hint='Leave the commit to cgk_tasks, or leave transaction="shared" out.',
            )
        super().commit()

    def commit_runs(self, finish: Callable[[AnyConnection], None]) -> None:
        """Commit what the runs have written, with `finish` as the last. Raises what keeps them from it."""
        self._ends = True
        try:
            with _context(self.tenant):
                self.commit_with(finish)
        finally:
            super().close()

    def abandon(self) -> None:
        """Roll back what is open, and give the connection back."""
        super().close()

    def _goes_back(self) -> bool:
        """Roll back to the savepoint. False where there is none yet, or that is not enough, or not possible any more.

        What listens to the session is told of rollbacks by SQLAlchemy alone.
        """
        transaction = self.get_transaction()
        is_open = transaction is not None and transaction.is_active
        if not self._has_savepoint or not is_open or self._ends or self.is_listened_to:
            return False
        try:
            while (nested := self.get_nested_transaction()) is not None:
                nested.rollback()
            script(self._driver, _BACK)
        except (psycopg.Error, sa.exc.SQLAlchemyError):
            return False
        self.expunge_all()
        return True


class SharedTransaction:
    """Of a packet. put_back: runs whose transaction was lost run again, which uses no attempt."""

    def __init__(self, worker_id: str, put_back: Callable[[Sequence[Claimed]], None]) -> None:
        self._worker_id = worker_id
        self._put_back = put_back
        self._session: SharedSession | None = None
        self._runs: list[Claimed] = []
        self._closings: list[Closing] = []

    def open(self, tenant: Tenant) -> SharedSession:
        """The session of a run that begins to use it."""
        session = self._session
        if session is None or session.is_lost or session.tenant.id != tenant.id or len(self._runs) >= _MOST_RUNS:
            self.end()
            session = SharedSession(tenant)
        session.begin_run()
        self._session = session
        return session

    def has(self, session: TenantSession) -> bool:
        return session is self._session

    def keep(self, run: Claimed, closing: Closing) -> None:
        """The run has completed. It is committed at once where something listens to its session. Raises what keeps what
        it wrote from being committed.
        """
        session = self._session
        assert session is not None
        session.keep_run()
        others = list(self._runs)
        self._runs.append(run)
        self._closings.append(closing)
        if not session.is_listened_to:
            return
        try:
            self._commit(flush=True)
        except Exception as exc:
            self._run_again(others, exc)
            raise

    def end(self) -> None:
        """Commit what the runs have written, together with their ends; or let them run again."""
        runs = self._runs
        try:
            self._commit()
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing is committed, or nothing is left to put back
            self._run_again(runs, exc)

    def _commit(self, *, flush: bool = False) -> None:
        session, closings = self._session, self._closings
        self._session, self._runs, self._closings = None, [], []
        if session is None or not closings:
            return

        def finish(connection: AnyConnection) -> None:
            closed = ends.finish(connection, self._worker_id, closings, flush=flush)
            if len(closed) < len(closings):
                raise StaleAttemptError("One of the runs is not this attempt's any more.")

        if session.is_lost:
            session.abandon()
            raise StaleAttemptError("A run that failed undid what the others had written.")
        session.commit_runs(finish)

    def _run_again(self, runs: Sequence[Claimed], reason: Exception) -> None:
        """Runs of which some may have ended after all: those are not this worker's any more, and stay as they are."""
        if not runs:
            return
        set_apart(runs[0].event)
        log.warning("shared_transaction_lost", _event=runs[0].event, runs=len(runs), reason=text_of(reason))
        try:
            self._put_back(runs)
        except psycopg.Error:
            # The supervisor sees that nobody runs these any more and reclaims them.
            log.exception("outcomes_not_recorded", runs=[run.id for run in runs])


def is_apart(event: str) -> bool:
    """Whether runs of the event have transactions of their own for now."""
    return bool(_apart_until) and _apart_until.get(event, 0.0) > time.monotonic()


def set_apart(event: str) -> None:
    """Let runs of the event have transactions of their own for a minute."""
    _apart_until[event] = time.monotonic() + _APART_SECONDS


@contextmanager
def _context(tenant: Tenant) -> Iterator[None]:
    """The tenant's, also where another one's run begins, or none does."""
    token = set_current_tenant(tenant)
    try:
        yield
    finally:
        reset_current_tenant(token)
