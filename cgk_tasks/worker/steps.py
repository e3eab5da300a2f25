"""The steps of the run that an attempt of this worker holds, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cgk_tasks.config import get_settings
from cgk_tasks.errors import RetryLater, StaleAttemptError
from cgk_tasks.runs import mails, steps
from cgk_tasks.runs.steps import Fence, Memo
from cgk_tasks.sql import postgres
from cgk_tasks.sql.postgres import AnyConnection
from cgk_tasks.worker import process_state
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.worker.interruption import RunInterrupted

if TYPE_CHECKING:
    from cgk_tasks.runs.store import Claimed
    from cgk_tasks.tenancy.database import TenantSession

_MIGRATION_SECONDS = 30.0
"""A workflow whose tables are not there yet is looked at again after so long."""


class _NotKeptError(Exception):
    """The run is lost, or the step is over already: what was written with it is rolled back."""


def fence_of(run: Claimed) -> Fence:
    return Fence(run.id, run.attempt, worker_id(), run.tenant_id, run.key_id)


class RunSteps:
    """Nothing is asked or written before the job has a step."""

    __slots__ = ("_run", "at_failure")

    def __init__(self, run: Claimed) -> None:
        self._run = run
        self.at_failure: Memo | None = None

    def load(self) -> Sequence[Memo]:
        def read() -> list[Memo]:
            with postgres.autocommit() as connection:
                return steps.load(connection, fence_of(self._run))

        try:
            return postgres.retry_while_unavailable(read, get_settings().database_patience_seconds)
        except Exception as exc:
            if postgres.is_not_migrated(exc):
                reason = "steps need a migration that the database does not have: cgk-tasks migrate --finish"
                raise RetryLater(_MIGRATION_SECONDS, reason) from exc
            raise

    def keep(self, memo: Memo, begin: Memo | None = None, session: TenantSession | None = None) -> Memo:
        """As `StepRecord.keep`. Ends the attempt if the worker stops: the run goes on elsewhere."""
        kept = self._kept([memo] if begin is None else [begin, memo], session)
        if not kept:
            memo = self._over_already(memo)
        if memo.is_over and process_state.shared().stopping:
            raise RunInterrupted
        return memo

    def take(self, make: Callable[[str], Memo], mail: str, begin: Memo | None = None) -> Memo | None:
        """As `StepRecord.take`."""
        fence = fence_of(self._run)
        taken: list[Memo] = []

        def write() -> None:
            taken.clear()
            with postgres.transaction() as connection:
                found = mails.oldest(connection, fence, mail)
                if found is None:
                    return
                taken.append(make(found.payload))
                if not steps.keep(connection, fence, [*([begin] if begin is not None else ()), *taken]):
                    raise _NotKeptError
                mails.take(connection, fence, found)

        try:
            postgres.retry_while_unavailable(write, get_settings().database_patience_seconds)
        except _NotKeptError:
            return self._over_already(taken[0])
        return taken[0] if taken else None

    def _kept(self, memos: Sequence[Memo], session: TenantSession | None) -> bool:
        fence = fence_of(self._run)

        def write(connection: AnyConnection) -> None:
            if not steps.keep(connection, fence, memos):
                raise _NotKeptError

        def write_alone() -> None:
            with postgres.autocommit() as connection:
                write(connection)

        try:
            if session is not None:
                session.commit_with(write)
            else:
                postgres.retry_while_unavailable(write_alone, get_settings().database_patience_seconds)
        except _NotKeptError:
            return False
        return True

    def _over_already(self, memo: Memo) -> Memo:
        """Another attempt has brought the step to its end, or the answer to the first try was lost."""
        fence = fence_of(self._run)

        def find() -> Memo | None:
            with postgres.autocommit() as connection:
                return steps.find_over(connection, fence, memo.name, memo.nth)

        found = postgres.retry_while_unavailable(find, get_settings().database_patience_seconds)
        if found is None:
            raise StaleAttemptError(f"This attempt no longer owns its run: step {memo.name!r} is not on record.")
        return found
