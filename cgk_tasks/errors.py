"""Every exception cgk_tasks raises, in one tree.

    CgkTasksError
    ├─ ConfigurationError          a setting is missing or wrong
    ├─ EmbeddedError               a private PostgreSQL or Redis did not start or stop
    ├─ StoreError                  PostgreSQL refused, or is away
    │  └─ StaleAttemptError        the run was taken from the attempt that worked on it
    ├─ BrokerError                 the broker refused, or is away
    ├─ ProviderError               Inngest or Trigger.dev refused, or cannot be reached
    ├─ UnknownScheduleError        there is no schedule with this name or id
    ├─ UnknownEndpointError        the tenant has no such webhook endpoint
    ├─ UnknownKeyError             there is no API key with this id
    ├─ RequestRefusedError         the HTTP API refused a request
    ├─ SignalUrlError              the URL of a signal was altered, or its time is over
    ├─ AddressRefusedError         a webhook's URL leads where webhooks may not go
    ├─ SecretUnreadableError       a stored secret cannot be decrypted here
    ├─ TenantError
    │  ├─ TenantMissingError       something was sent or asked for without a tenant
    │  ├─ InvalidTenantError       the id is malformed
    │  ├─ UnknownTenantError       the id is well-formed, but no such tenant is registered
    │  └─ TenantContextError       the wrong context, or none
    ├─ SendError                   nothing was sent
    │  ├─ UnknownEventError
    │  ├─ PayloadInvalidError
    │  ├─ PayloadTooLargeError
    │  ├─ InvalidOptionError
    │  ├─ IdempotencyConflictError
    │  ├─ ChunkRefusedError
    │  ├─ QueueFullError          as many runs wait as may
    │  └─ QuotaExceededError      the tenant may send no more runs today
    ├─ RunError
    │  ├─ UnknownRunError
    │  ├─ RunStateError            the run's state does not allow the action
    │  ├─ RunFailedError           the run that was waited for failed
    │  │  └─ RunLostError          its process died too many times, or it ended its process
    │  ├─ ResultTooLargeError      the run completed, but its result was not kept
    │  └─ WaitTimeoutError         the run that was waited for is still open
    └─ JobError                    raised by a job to steer its own run
       ├─ PermanentError           fail now
       │  ├─ StepFailedError       a step of a workflow failed for good
       │  │  └─ ChildFailedError   a run that the workflow invoked did not complete
       │  │     ├─ ChildCancelledError
       │  │     └─ ChildTimeoutError
       │  └─ WorkflowChangedError  the code of a workflow does not fit what its run has done
       ├─ TransientError           try again, this uses an attempt
       ├─ RetryLater               try again, this uses no attempt
       │  └─ LimitReached          a limit of runs at once, or in an interval, has no room
       ├─ JobTimeoutError          the job took too long
       ├─ JobLostError             the worker ended under a job that must not run twice
       ├─ OutcomeNotRecordedError  the job ended, but PostgreSQL refused to record how
       └─ RunCancelledError        the run was cancelled while the job ran

``text`` says what was wrong and where, ``hint`` what to do about it, if there is something to do; ``str(error)`` is
both. The data is in attributes, and ``code`` names the kind of failure for machines: it is stored with the run, and
decides whether a retry can help (:mod:`cgk_tasks.jobs.classification`). All of them pickle, so another process gets
them whole.
"""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded, WorkerLostError

TENANT_ID_RULE = "[a-z0-9][a-z0-9_-]{0,62}"
"""The form of a tenant id, as error texts show it."""


def as_seconds(duration: float | timedelta) -> float:
    """Return a duration, given in seconds or as a timedelta, in seconds."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    try:
        return float(duration)
    except OverflowError:  # of a whole number that no float can hold
        return math.inf if duration > 0 else -math.inf


LONGEST_WAIT_SECONDS = 100 * 365.25 * 86_400
"""A wait is stored as a date. A century is as long as for ever."""


def wait_seconds(delay: float | timedelta) -> float:
    """Return a wait in seconds as the record can hold it: 0 to a hundred years. NaN is 0."""
    seconds = as_seconds(delay)
    return min(max(0.0, seconds), LONGEST_WAIT_SECONDS) if seconds == seconds else 0.0  # noqa: PLR0124 - not a number


def _restore(cls: type["CgkTasksError"], args: tuple[Any, ...], state: dict[str, Any]) -> "CgkTasksError":
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


def _did_you_mean(nearest: str | None) -> str:
    return f'Did you mean "{nearest}"? ' if nearest else ""


class CgkTasksError(Exception):
    """Base of every error of this package. text: what was wrong, and where. hint: what to do."""

    code: str = "CGK_TASKS_ERROR"
    hint: str | None = None
    """What to do, as a sentence or two; None where only the caller can know."""
    item: int | None = None
    """Of an error about one of several sends: which of them, counted from 0."""

    def __init__(self, text: str = "", *, hint: str | None = None) -> None:
        super().__init__(text)
        self.hint = hint

    @property
    def text(self) -> str:
        """What was wrong, and where: the error without its hint."""
        return super().__str__()

    def __str__(self) -> str:
        return f"{self.text} {self.hint}" if self.hint else self.text

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions unpickle by calling the class with their text; ours take data instead of a text.
        return _restore, (type(self), self.args, self.__dict__)


class ConfigurationError(CgkTasksError):
    """A setting is missing or wrong."""

    code = "NOT_CONFIGURED"


class EmbeddedError(CgkTasksError):
    """A private PostgreSQL or Redis could not be started or stopped."""

    code = "EMBEDDED_ERROR"


class StoreError(CgkTasksError):
    """PostgreSQL refused a statement, or is away. The cause tells which, and decides about a retry."""

    code = "STORE_ERROR"


class StaleAttemptError(StoreError):
    """The run was taken from this attempt while it ran: what it wrote with ctx.db is rolled back."""

    code = "RUN_LOST"


class BrokerError(CgkTasksError):
    """The broker refused a message, or is away."""

    code = "BROKER_ERROR"


class ProviderError(CgkTasksError):
    """Inngest or Trigger.dev refused a request, or cannot be reached. ``code`` says which, and decides about a retry.

    status: the HTTP status of its answer, if there was one. retry_after: the seconds it asked to wait.
    accepted: of a batch that went out in several requests, the ids of the runs that were accepted all the same.
    """

    code = "SERVICE_UNAVAILABLE"

    def __init__(
        self,
        text: str,
        code: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        accepted: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        self.code = code
        self.status = status
        self.retry_after = retry_after
        self.accepted = tuple(accepted)
        super().__init__(text, hint=hint)


class UnknownScheduleError(CgkTasksError):
    """There is no schedule with this name or id. ``nearest`` is a known one like it, if there is any."""

    code = "UNKNOWN_SCHEDULE"

    def __init__(self, name: str, nearest: str | None = None) -> None:
        self.name = name
        self.nearest = nearest
        super().__init__(
            f"There is no schedule {name!r}.", hint=f"{_did_you_mean(nearest)}List them with: cgk-tasks schedules list"
        )


# Secrets and webhooks


class SecretUnreadableError(CgkTasksError):
    """A stored secret cannot be decrypted. ``key_id`` names the key that it needs; None: no key can help any more.

    A missing key is transient, since one worker may have been forgotten: an attempt is made again, at least a minute
    later, and perhaps elsewhere.
    """

    retry_after: float | None = None

    def __init__(self, name: str, tenant_id: str, key_id: str | None) -> None:
        self.name = name
        self.tenant_id = tenant_id
        self.key_id = key_id
        what = f'The secret "{name}" of tenant "{tenant_id}" cannot be read'
        if key_id is None:
            self.code = "SECRET_DAMAGED"
            super().__init__(f"{what}: it was altered, or is another tenant's or setting's.", hint="Set it again.")
        else:
            self.code = "ENCRYPTION_KEY_MISSING"
            self.retry_after = 60.0
            super().__init__(
                f"{what}: its key {key_id} is missing here.",
                hint="Add that key to CGK_ENCRYPTION_KEYS, after the newest one, wherever workers run; if it is lost, "
                "set the secret again.",
            )


class UnknownEndpointError(CgkTasksError):
    """The tenant has no webhook endpoint with this id."""

    code = "RECORD_NOT_FOUND"

    def __init__(self, tenant_id: str, endpoint_id: str) -> None:
        self.tenant_id = tenant_id
        self.endpoint_id = endpoint_id
        super().__init__(
            f'The tenant "{tenant_id}" has no webhook endpoint "{endpoint_id}".',
            hint=f"List them with: cgk-tasks webhooks list {tenant_id}",
        )


class UnknownKeyError(CgkTasksError):
    """There is no API key with this id."""

    code = "RECORD_NOT_FOUND"

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f'There is no API key "{key_id}".', hint="List them with: cgk-tasks keys list")


class RequestRefusedError(CgkTasksError):
    """The HTTP API refused a request before anything was done. ``code`` says why.

    status: the HTTP status of the answer. retry_after: after how many seconds to try again, if that can help.
    """

    code = "BAD_REQUEST"

    def __init__(
        self, text: str, code: str, status: int, *, retry_after: float | None = None, hint: str | None = None
    ) -> None:
        self.code = code
        self.status = status
        self.retry_after = retry_after
        super().__init__(text, hint=hint)


class SignalUrlError(CgkTasksError):
    """The URL of a signal cannot be used: SIGNAL_URL_INVALID, it was altered or its key is gone; SIGNAL_URL_EXPIRED."""

    code = "SIGNAL_URL_INVALID"

    def __init__(self, text: str, code: str = "SIGNAL_URL_INVALID") -> None:
        self.code = code
        super().__init__(text, hint="Ask for a new one.")


class AddressRefusedError(CgkTasksError):
    """A webhook's URL is not of the form that webhooks need, or leads to a private address."""

    code = "INVALID_INPUT"


# Tenants


class TenantError(CgkTasksError):
    """Something about the tenant stops the operation."""

    code = "TENANT_ERROR"


class TenantMissingError(TenantError):
    """Something that needs a tenant came without one. ``subject`` names it."""

    code = "MISSING_TENANT_ID"

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(
            f"{subject} needs a tenant, and there is none.",
            hint="An event names it in its payload, as tenantId (on a terminal: --tenant); other code runs inside "
            "tenant_context(...), and a thread that it starts calls keep_tenant(function).",
        )


class InvalidTenantError(TenantError):
    """A tenant id is malformed."""

    code = "INVALID_TENANT_ID"

    def __init__(self, tenant_id: object) -> None:
        self.tenant_id = tenant_id
        shown = repr(tenant_id)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(
            f"{shown} is not a tenant id.",
            hint=(
                f"Use a text that matches {TENANT_ID_RULE}: lower-case letters, digits, _ and -, at most 63 characters."
            ),
        )


class UnknownTenantError(TenantError):
    """A well-formed tenant id that is not registered."""

    code = "INVALID_TENANT_ID"

    def __init__(self, tenant_id: str, nearest: str | None = None) -> None:
        self.tenant_id = tenant_id
        self.nearest = nearest
        super().__init__(
            f'There is no tenant "{tenant_id}".',
            hint=f"{_did_you_mean(nearest)}To register it, run: cgk-tasks tenants add {tenant_id}",
        )


class TenantContextError(TenantError):
    """A tenant context is missing, or is one of another tenant."""

    code = "TENANT_CONTEXT_ERROR"


# Sending


class SendError(CgkTasksError):
    """Nothing was sent."""

    code = "SEND_ERROR"


class UnknownEventError(SendError):
    """The catalog has no event of this name."""

    code = "UNKNOWN_EVENT"

    def __init__(self, event: str, nearest: str | None = None) -> None:
        self.event = event
        self.nearest = nearest
        super().__init__(
            f'There is no event "{event}".',
            hint=(
                f"{_did_you_mean(nearest)}See all with: cgk-tasks events list. An event of your own, a subclass of "
                "TenantEvent, is known where its module is imported: name it in CGK_JOB_MODULES."
            ),
        )


class PayloadInvalidError(SendError):
    """The payload does not fit the event. ``problems`` has one line for each fault."""

    code = "INVALID_PAYLOAD"

    def __init__(self, event: str, problems: Sequence[str]) -> None:
        self.event = event
        self.problems = list(problems)
        found = "; ".join(self.problems)
        super().__init__(
            f"The payload of {event} is not valid: {found}{'' if found.endswith('?') else '.'}",
            hint=f"See its fields with: cgk-tasks events show {event}",
        )


class PayloadTooLargeError(SendError):
    """The payload, as JSON, is over the limit."""

    code = "PAYLOAD_TOO_LARGE"

    def __init__(self, event: str, size_bytes: int, limit_bytes: int) -> None:
        self.event = event
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"The payload of {event} has {size_bytes:,} bytes; at most {limit_bytes:,} are allowed.",
            hint="Store the data and send a reference to it.",
        )


class InvalidOptionError(SendError):
    """An option of a send is wrong, such as a ``run_at`` without a time zone."""

    code = "INVALID_OPTION"

    def __init__(self, option: str, problem: str, *, hint: str | None = None) -> None:
        self.option = option
        self.problem = problem
        super().__init__(f"The option {option} is not valid: {problem}", hint=hint)


class IdempotencyConflictError(SendError):
    """An idempotency key was used before, with another payload. ``run_id`` is the run it made then."""

    code = "IDEMPOTENCY_CONFLICT"

    def __init__(self, event: str, key: str, run_id: str) -> None:
        self.event = event
        self.key = key
        self.run_id = run_id
        super().__init__(
            f'The idempotency key "{key}" of {event} belongs to run {run_id}, which has another payload.',
            hint="Send the same payload again, or use a new key.",
        )


class ChunkRefusedError(SendError):
    """Not sent, because another item of the same chunk was wrong. ``item`` is that item; its own error is the cause."""

    code = "CHUNK_REFUSED"

    def __init__(self, item: int, cause: CgkTasksError) -> None:
        self.item = item
        super().__init__(
            f"Nothing of this chunk was sent, because item {item} (counted from 0) is wrong: {cause}",
            hint="Correct that item or leave it out, and send the chunk again.",
        )
        self.__cause__ = cause


class QueueFullError(SendError):
    """As many runs wait as may: of a tenant (`max_waiting`), or in the local provider, where tenant_id is None.

    retry_after: after how many seconds to send again; it grows while nothing becomes free.
    """

    code = "QUEUE_FULL"

    def __init__(self, limit: int, *, tenant_id: str | None = None, retry_after: float | None = None) -> None:
        self.limit = limit
        self.tenant_id = tenant_id
        self.retry_after = retry_after
        if tenant_id is None:
            super().__init__(
                f"The local queue is full ({limit:,} runs).",
                hint="Send more slowly, raise its limit, or use the celery provider.",
            )
        else:
            super().__init__(
                f"The tenant {tenant_id!r} may have {limit:,} runs wait, and has no room for more.",
                hint=f"Send again in {retry_after or 1:.0f} s, or raise max_waiting of the tenant or its plan.",
            )


class QuotaExceededError(SendError):
    """The tenant may send no more runs today (`daily_runs`). retry_after: seconds until the day of UTC is over."""

    code = "QUOTA_EXCEEDED"

    def __init__(self, tenant_id: str, limit: int, retry_after: float) -> None:
        self.tenant_id = tenant_id
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(
            f"The tenant {tenant_id!r} may send {limit:,} runs a day, and has none left for these.",
            hint=f"Wait for {retry_after:.0f} s (a day is one of UTC), or raise daily_runs of the tenant or its plan.",
        )


# Runs


class RunError(CgkTasksError):
    """Something about a run stops the operation."""

    code = "RUN_ERROR"


class UnknownRunError(RunError):
    """No run has this id: it never existed, or its history was removed."""

    code = "RECORD_NOT_FOUND"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"There is no run {run_id}.", hint="Check the id; closed runs are removed when their retention ends."
        )


class RunStateError(RunError):
    """The run's state does not allow the action, such as a retry of a run that is still open."""

    code = "INVALID_STATE"

    def __init__(self, run_id: str, state: str, action: str) -> None:
        self.run_id = run_id
        self.state = state
        self.action = action
        hints = {
            "retry": "Only closed runs can be retried: wait until it ends, or cancel it first.",
            "cancel": "Only open runs can be cancelled; this one has ended.",
            "signal": "Only open runs take signals; this one has ended.",
        }
        hint = hints.get(action, f"See it with: cgk-tasks runs show {run_id}")
        super().__init__(f"Cannot {action} run {run_id}: it is {state}.", hint=hint)


class RunFailedError(RunError):
    """The run that was waited for failed. ``code`` and ``message`` are those of its last error."""

    def __init__(self, run_id: str, code: str, message: str) -> None:
        self.run_id = run_id
        self.code = code
        self.message = message
        super().__init__(
            f"Run {run_id} failed with {code}: {message.rstrip('.')}.", hint=f"See: cgk-tasks runs show {run_id}"
        )


class RunLostError(RunFailedError, WorkerLostError):
    """The run that was waited for ended its process, or died with it too many times. Code for Celery catches it as
    WorkerLostError.
    """


class ResultTooLargeError(RunError):
    """The run completed, and its result was too large to be kept. ``note`` is what the record has in its place."""

    code = "RESULT_TOO_LARGE"

    def __init__(self, note: str) -> None:
        self.note = note
        super().__init__(
            note, hint="Store it and return a reference, or raise CGK_MAX_RESULT_BYTES where the job runs."
        )


class WaitTimeoutError(RunError):
    """The run that was waited for is still open. It goes on."""

    code = "TIMEOUT"

    def __init__(self, run_id: str, timeout_seconds: float) -> None:
        self.run_id = run_id
        self.timeout_seconds = timeout_seconds
        super().__init__(
            f"Run {run_id} was still open after {timeout_seconds:g} s.",
            hint="It goes on: ask for its state later with get_run, or wait with a longer timeout.",
        )


# Jobs


class JobError(CgkTasksError):
    """Base of what a job raises to steer its own run."""

    code = "JOB_ERROR"


class PermanentError(JobError):
    """Fail the run now: trying again cannot help. Any code is allowed."""

    def __init__(self, message: str, code: str = "PERMANENT_ERROR", *, hint: str | None = None) -> None:
        self.code = code
        super().__init__(message, hint=hint)


class StepFailedError(PermanentError):
    """A step has used up its attempts, or failed with an error that no retry cures. ``code`` is that error's.

    Raised where the workflow asks for the step, in each leg again. A workflow may catch it and do something else.
    """

    def __init__(self, step: str, code: str, message: str) -> None:
        self.step = step
        self.message = message
        super().__init__(f"Step {step!r} failed with {code}: {message.rstrip('.')}.", code)


class ChildFailedError(StepFailedError):
    """A run that the workflow invoked did not complete. ``run_id`` is its id, ``code`` that of its error; NO_JOB and
    EXPIRED where it was not executed.
    """

    def __init__(self, step: str, run_id: str, code: str, message: str) -> None:
        super().__init__(step, code, message)
        self.run_id = run_id
        self.args = (f"Child run {run_id} of step {step!r} ended with {code}: {message.rstrip('.')}.",)


class ChildCancelledError(ChildFailedError):
    """A run that the workflow invoked was cancelled."""

    def __init__(self, step: str, run_id: str) -> None:
        super().__init__(step, run_id, "CHILD_CANCELLED", "it was cancelled")


class ChildTimeoutError(ChildFailedError):
    """A run that the workflow invoked had not ended when its ``timeout`` was over, and was cancelled."""

    def __init__(self, step: str, run_id: str) -> None:
        super().__init__(step, run_id, "CHILD_TIMED_OUT", "it did not end in time")


class WorkflowChangedError(PermanentError):
    """The function of a workflow was changed in a way that does not fit what this run has done: a step was renamed or
    removed.
    """

    def __init__(self, workflow: str, steps: Sequence[str]) -> None:
        self.workflow = workflow
        self.steps = tuple(steps)
        super().__init__(
            f"Workflow {workflow!r} was changed: this run has done {', '.join(map(repr, steps))}, which its function "
            "does not ask for any more.",
            "WORKFLOW_CHANGED",
            hint="Deploy the code that it began with, or define a new version beside it; then replay the run.",
        )


class TransientError(JobError):
    """Try again later, with the job's backoff. Uses an attempt.

    retry_after: the least time to wait, in seconds or as a timedelta.
    """

    def __init__(
        self,
        message: str,
        code: str = "TRANSIENT_ERROR",
        retry_after: float | timedelta | None = None,
        *,
        hint: str | None = None,
    ) -> None:
        self.code = code
        self.retry_after = None if retry_after is None else wait_seconds(retry_after)
        super().__init__(message, hint=hint)


class RetryLater(JobError):  # noqa: N818 - it steers the run, and is no failure
    """Snooze: run again after ``delay`` (seconds or a timedelta). Uses no attempt."""

    code = "RETRY_LATER"

    def __init__(self, delay: float | timedelta, reason: str = "") -> None:
        self.delay_seconds = wait_seconds(delay)
        self.reason = reason
        super().__init__(f"again in {self.delay_seconds:g} s" + (f": {reason}" if reason else ""))


class LimitReached(RetryLater):
    """A limit has no room for the run: what `concurrency=` of a job and `with_rate_limit` raise. ``reason`` says
    which.
    """

    code = "LIMIT_REACHED"


class JobTimeoutError(JobError, SoftTimeLimitExceeded):
    """The job took longer than its timeout. Code for Celery catches it as SoftTimeLimitExceeded."""

    code = "TIMEOUT"

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(
            f"The job took longer than its timeout of {timeout_seconds:g} s.",
            hint="Make it shorter, split it, or raise its timeout in define_job(..., timeout=).",
        )


class JobLostError(JobError, WorkerLostError):
    """The worker or process ended under a job with ``redelivery=False``. Code for Celery catches it as
    WorkerLostError.
    """

    code = "WORKER_LOST"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"The run was lost after its job had begun: {reason}. The job must not run twice (redelivery=False).",
            hint="Look what it has done. To run it again, replay it.",
        )


class OutcomeNotRecordedError(JobError):
    """The attempt ended, and PostgreSQL refused what was to be recorded of it. The worker's log has the traceback."""

    code = "OUTCOME_NOT_RECORDED"

    def __init__(self, cause: BaseException) -> None:
        self.cause = type(cause).__qualname__
        super().__init__(
            f"The attempt ended, but its outcome could not be recorded ({self.cause}). The worker's log says why, with "
            "the event outcome_not_recorded."
        )


class RunCancelledError(JobError):
    """The run was cancelled while its job ran. Clean up, and let it pass."""

    code = "CANCELLED"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"Run {run_id} was cancelled while it ran.", hint="To run it again, replay it.")


def create_permanent_error(message: str, code: str = "PERMANENT_ERROR") -> PermanentError:
    """Make a :class:`PermanentError`; the same as calling the class."""
    return PermanentError(message, code)


def create_retryable_error(
    message: str, code: str | None = None, retry_after: float | timedelta | None = None
) -> TransientError:
    """Make a :class:`TransientError`; ``code`` defaults to ``TRANSIENT_ERROR``."""
    return TransientError(message, code or "TRANSIENT_ERROR", retry_after)
