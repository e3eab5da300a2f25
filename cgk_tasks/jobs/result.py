"""What a job may return instead of raising: how it went, as an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cgk_tasks.errors import PermanentError, TransientError
from cgk_tasks.jobs.classification import PERMANENT_CODES


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job did not succeed.

    retryable: whether another attempt may help. None: what its code says, and yes for a code that is not known.
    """

    message: str
    code: str = "JOB_FAILED"
    retryable: bool | None = None

    def as_exception(self) -> PermanentError | TransientError:
        """What the job would have raised."""
        again = self.code not in PERMANENT_CODES if self.retryable is None else self.retryable
        return TransientError(self.message, self.code) if again else PermanentError(self.message, self.code)


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job may return instead of raising.

    data: the run's result. error: the failure of this attempt, which is retried or not. Raises ValueError for a success
    with an error.
    """

    success: bool
    data: Any = None
    error: JobFailure | None = None

    def __post_init__(self) -> None:
        if self.success and self.error is not None:
            raise ValueError("a JobResult has success or an error, not both")

    def unwrap(self) -> Any:
        """The data. Raises PermanentError or TransientError, as the error says."""
        if self.success:
            return self.data
        raise (
            self.error or JobFailure("The job returned a JobResult without success and without an error.")
        ).as_exception()
