"""The steps of the run that an attempt of this worker holds, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from cgk_tasks.config import get_settings
from cgk_tasks.errors import RetryLater, StaleAttemptError
from cgk_tasks.flow.awaited_events import look_for
from cgk_tasks.runs import mails, steps, store
from cgk_tasks.runs.event_waits import EventKey
from cgk_tasks.runs.steps import Fence, Memo
from cgk_tasks.runs.undo import undo_of
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

    __slots__ = ("_run", "at_failure", "compensates", "is_undone")

    def __init__(self, run: Claimed) -> None:
        self._run = run
        self.at_failure: Memo | None = None
        self.compensates = False
        self.is_undone = False

    def load(self) -> Sequence[Memo]:
        def read() -> list[Memo]:
            with postgres.autocommit() as connection:
                return steps.load(connection, fence_of(self._run))

        try:
            memos = postgres.retry_while_unavailable(read, get_settings().database_patience_seconds)
        except Exception as exc:
            if postgres.is_not_migrated(exc):
                reason = "steps need a migration that the database does not have: cgk-tasks migrate --finish"
                raise RetryLater(_MIGRATION_SECONDS, reason) from exc
            raise
        self.compensates = any(memo.kind == "compensates" for memo in memos)
        self.is_undone = undo_of(memos) is not None
        return memos

    def keep(self, memo: Memo, before: Sequence[Memo] = (), session: TenantSession | None = None) -> Memo:
        """As `StepRecord.keep`. Ends the attempt if the worker stops: the run goes on elsewhere."""
        if not self._is_kept(memo, before, session):
            memo = self._over_already(memo)
        if memo.is_over and process_state.shared().stopping:
            raise RunInterrupted
        return memo

    def take(self, make: Callable[[str], Memo], mail: str, before: Sequence[Memo] = ()) -> Memo | None:
        """As `StepRecord.take`. An event that nobody has brought to the run yet is looked for."""
        taken = self._taken(make, mail, before)
        event = EventKey.of_mail(mail) if taken is None else None
        if event is None:
            return taken
        look = partial(look_for, self._run.id, self._run.tenant_id, [event])
        is_found = postgres.retry_while_unavailable(look, get_settings().database_patience_seconds)
        return self._taken(make, mail, before) if is_found else None

    def _taken(self, make: Callable[[str], Memo], mail: str, before: Sequence[Memo]) -> Memo | None:
        fence = fence_of(self._run)
        made: list[Memo] = []

        def write() -> Memo | None:
            with postgres.transaction() as connection:
                found = mails.oldest(connection, fence, mail)
                if found is None:
                    return None
                made.append(make(found.payload))
                if not _is_among(steps.keep(connection, fence, [*before, made[-1]]), made[-1]):
                    raise _NotKeptError
                mails.take(connection, fence, found)
            return made[-1]

        try:
            taken = postgres.retry_while_unavailable(write, get_settings().database_patience_seconds)
        except _NotKeptError:
            return self._over_already(made[-1])
        if taken is None and made:  # the answer to the first try was lost
            return self._over_already(made[-1])
        return taken

    def gather(
        self, make: Callable[[Mapping[str, str]], Memo | None], children: Sequence[str], before: Sequence[Memo] = ()
    ) -> Memo | None:
        """As `StepRecord.gather`."""
        fence = fence_of(self._run)
        made: list[Memo] = []

        def write() -> Memo | None:
            with postgres.transaction() as connection:
                found = mails.ends_for(connection, fence, children)
                memo = make({child: end.payload for child, end in found.items()})
                if memo is None:
                    return None
                made.append(memo)
                if not _is_among(steps.keep(connection, fence, [*before, memo]), memo):
                    raise _NotKeptError
                mails.take_ends(connection, fence, found.values())
                if rest := [child for child in children if child not in found]:
                    store.cancel_with_children(connection, rest)
            return memo

        try:
            kept = postgres.retry_while_unavailable(write, get_settings().database_patience_seconds)
        except _NotKeptError:
            return self._over_already(made[-1])
        if kept is None and made:  # the answer to the first try was lost
            return self._over_already(made[-1])
        return kept

    def _is_kept(self, memo: Memo, before: Sequence[Memo], session: TenantSession | None) -> bool:
        fence = fence_of(self._run)

        def write(connection: AnyConnection) -> None:
            if not _is_among(steps.keep(connection, fence, [*before, memo]), memo):
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


def _is_among(kept: set[tuple[str, int]], memo: Memo) -> bool:
    return (memo.name, memo.nth) in kept
