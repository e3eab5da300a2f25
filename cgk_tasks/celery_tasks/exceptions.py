"""What Celery's exceptions mean for a run: `self.retry`, `Ignore`, `Reject`, `self.replace`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from billiard import common as billiard_common
from celery import Signature
from celery.exceptions import Ignore, Reject, Retry

from cgk_tasks.celery_tasks.arguments import Arguments, payload_of
from cgk_tasks.celery_tasks.times import seconds_of, seconds_until
from cgk_tasks.errors import LONGEST_WAIT_SECONDS
from cgk_tasks.flow.new_run import check_size
from cgk_tasks.worker.attempt import Attempt
from cgk_tasks.worker.outcome import Outcome, permanent_failure, retry_after

_REJECTED = json.dumps({"code": "REJECTED", "reason": "the task raised Reject(requeue=True)"})


class Replaced(Ignore):
    """`self.replace(signature)`: the run goes on as the signature, under its own id."""

    def __init__(self, signature: Signature[Any]) -> None:
        super().__init__("Replaced by new task")
        self.signature = signature


def interpret(attempt: Attempt, exc: BaseException) -> Outcome | None:
    """The outcome of an attempt that one of Celery's exceptions ended; None for any other exception.

    Raises the SystemExit of a process that was told to end: that is no doing of the job's.
    """
    if isinstance(exc, SystemExit) and _told_to_end():
        raise exc
    if isinstance(exc, Retry):
        return _retry(attempt, exc)
    if isinstance(exc, Replaced):
        return Outcome("completed", result="null", exception=exc, send_replacement=exc.signature.delay)
    if isinstance(exc, Reject):
        is_requeued: bool = exc.requeue  # type: ignore[attr-defined]  # celery-types leaves it out
        return _requeued(attempt, exc) if is_requeued else permanent_failure(exc, attempt.ctx.attempt)
    if isinstance(exc, Ignore):
        return Outcome("completed", result="null", exception=exc)
    return None


def _requeued(attempt: Attempt, exc: Reject) -> Outcome:
    """The run comes again, as if it had not been taken, and is told that it did: `delivery_info["redelivered"]`."""
    given, payload = attempt.ctx.payload, None
    if isinstance(given, Arguments) and not given.is_redelivered:
        payload = payload_of(*given, ignore_result=given.ignore_result, is_redelivered=True)
    return Outcome("snooze", exception=exc, deferral=_REJECTED, payload=payload)


def _told_to_end() -> bool:
    """Whether this process of a pool got SIGTERM: billiard's handler notes that, and raises SystemExit."""
    noted: list[bool] = vars(billiard_common)["_should_have_exited"]
    return noted[0]


def _retry(attempt: Attempt, exc: Retry) -> Outcome:
    """The pause is the task's own choice, and so are the next attempt's arguments."""
    signature = getattr(exc, "sig", None)
    try:
        delay = _delay_seconds(getattr(signature, "options", None) or {})
        payload = _next_payload(attempt, signature) if signature is not None else None
    except Exception as wrong:  # noqa: BLE001 - a time or an argument that no run can have: the attempt fails with it
        return attempt.failed(wrong)
    cause = exc.exc if isinstance(exc.exc, BaseException) else exc
    return retry_after(exc, cause, attempt.ctx, delay, payload)


def _next_payload(attempt: Attempt, signature: Signature[Any]) -> str:
    """The arguments of the next attempt. Raises what a send with them would raise."""
    said = getattr(attempt.ctx.payload, "ignore_result", None)
    payload = payload_of(signature.args or (), signature.kwargs or {}, ignore_result=said)
    check_size(attempt.ctx.event, payload)
    return payload


def _delay_seconds(options: dict[str, Any]) -> float:
    """How long `self.retry(countdown=, eta=)` says to wait; a hundred years at most, as RetryLater does.

    Raises InvalidOptionError.
    """
    eta = options.get("eta")
    seconds = (
        seconds_until(eta) if isinstance(eta, datetime) else seconds_of("countdown", options.get("countdown") or 0)
    )
    return min(max(0.0, seconds), LONGEST_WAIT_SECONDS)
