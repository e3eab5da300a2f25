"""The ends of a packet's runs that are written together, with one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from cgk_tasks.errors import OutcomeNotRecordedError
from cgk_tasks.flow.accept import unit_of_work
from cgk_tasks.runs import ends, store
from cgk_tasks.runs.ends import Closed, Closing
from cgk_tasks.runs.models import State
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql import postgres
from cgk_tasks.sql.locks import is_locked
from cgk_tasks.worker.attempt import Attempt
from cgk_tasks.worker.outcome import Outcome, permanent_failure

log = structlog.get_logger("cgk_tasks.runs")


class GatheredClosings:
    """What is refused together is written one by one, so that one run's fault costs the others nothing.

    follow: what follows from the ends of parents, in the transaction that closes them. flush: wait for the disk.
    """

    def __init__(
        self, worker_id: str, follow: Callable[[Iterable[Closed]], None], patience_seconds: float, *, flush: bool
    ) -> None:
        self._worker_id, self._flush = worker_id, flush
        self._follow = follow
        self._patience = patience_seconds
        self._closings: list[Closing] = []
        self._has_children = False

    def add(self, run: Claimed, closing: Closing) -> None:
        """To be written with the next `write`."""
        self._closings.append(closing)
        self._has_children |= run.parent_id is not None

    def write(self) -> None:
        """Write what was gathered. If PostgreSQL is away for longer than the patience, the runs run again."""
        closings, self._closings = self._closings, []
        if not closings:
            return
        try:
            self._write(closings)
        except Exception as exc:
            if not postgres.is_away(exc):
                for closing in self._locked_last(closings) if is_locked(exc) else closings:
                    self._write_alone(closing)
            else:
                # The supervisor sees that nobody runs these any more and reclaims them.
                log.exception("outcomes_not_recorded", runs=[closing.id for closing in closings])

    def _write(self, closings: Sequence[Closing]) -> None:
        def write() -> None:
            if not self._has_children:
                with postgres.autocommit() as connection:
                    ends.finish_apart(connection, self._worker_id, closings, flush=self._flush)
                return
            # A child's end counts on its parent, and something may follow from that: all in one transaction.
            with postgres.transaction() as connection, unit_of_work(connection) as unit:
                self._follow(ends.finish(connection, self._worker_id, closings, flush=self._flush))
            unit.publish()

        postgres.retry_while_unavailable(write, self._patience)

    def _locked_last(self, closings: Sequence[Closing]) -> list[Closing]:
        """An end waits for whoever has its run locked, but those of other runs do not wait with it."""
        hint = "An open transaction cancels or signals one of them: see pg_locks. This process waits for its end."
        log.warning("ends_locked", runs=len(closings), hint=hint)
        ids = [closing.id for closing in closings]
        free = postgres.retry_while_unavailable(lambda: store.unlocked(ids), self._patience)
        return sorted(closings, key=lambda closing: closing.id not in free)

    def _write_alone(self, closing: Closing) -> None:
        """Close a run by itself; as failed, with a record of the framework's own, where that is refused too."""
        try:
            self._write([closing])
            return
        except Exception as exc:
            log.exception("outcome_not_recorded", run=closing.id, outcome=closing.state)
            failed = permanent_failure(OutcomeNotRecordedError(exc), closing.attempt)
        minimal = closing._replace(state="failed", result=None, error=failed.error, error_code=failed.error_code)
        try:
            self._write([minimal])
        except Exception:
            log.exception("outcome_not_recorded", run=closing.id, outcome="failed")


def closing_of(
    run: Claimed, state: State, job_id: str | None, outcome: Outcome, attempt: Attempt | None = None
) -> Closing:
    """What is recorded of a run's end. attempt: None where it could not begin, or has broken off."""
    result = outcome.result if state == "completed" else None
    code = None if state == "cancelled" else outcome.error_code
    took = None if attempt is None else attempt.seconds_so_far
    return Closing(run.id, run.tenant_id, run.attempt, state, job_id, result, outcome.error, code, run.key_id, took)
