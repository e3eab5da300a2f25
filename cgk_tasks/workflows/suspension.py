"""How a leg ends before its function has returned."""

from __future__ import annotations

from typing import Literal

from cgk_tasks.errors import PermanentError
from cgk_tasks.runs.steps import Suspension


class WorkflowSuspended(BaseException):
    """The workflow waits, or a step of it is tried again: the leg ends here, and the next one begins from the top.

    No Exception, so that `except Exception` does not swallow it. `finally` runs at each wait.
    """

    def __init__(self, suspension: Suspension | None = None) -> None:
        super().__init__("The workflow waits.")
        self.suspension = suspension or Suspension(())


class WorkflowStopped(BaseException):
    """The run is to be undone, and the function has come to the end of what is on record."""


class WorkflowUndone(BaseException):
    """The run has undone what it had done, or could not. error: JSON text for the record."""

    def __init__(
        self, state: Literal["failed", "cancelled"], error: str, code: str | None, exception: Exception
    ) -> None:
        super().__init__(f"The workflow is undone, and {state}.")
        self.state = state
        self.error = error
        self.code = code
        self.exception = exception


class WorkflowContinued(BaseException):
    """The workflow ends, and begins again with this payload, which is JSON text."""

    def __init__(self, payload: str) -> None:
        super().__init__("The workflow continues as a new run.")
        self.payload = payload


def cannot_continue() -> PermanentError:
    """What a child run fails with that continues as a new one."""
    return PermanentError(
        "A run that has a parent cannot continue as a new one, since its parent waits for its end.",
        "CANNOT_CONTINUE_AS_NEW",
        hint="Send the event instead of invoking it, and give it one job.",
    )
