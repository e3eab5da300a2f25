"""How a leg ends before its function has returned."""

from __future__ import annotations

from cgk_tasks.runs.steps import Suspension


class WorkflowSuspended(BaseException):
    """The workflow waits, or a step of it is tried again: the leg ends here, and the next one begins from the top.

    No Exception, so that `except Exception` does not swallow it. `finally` runs at each wait.
    """

    def __init__(self, suspension: Suspension | None = None) -> None:
        super().__init__("The workflow waits.")
        self.suspension = suspension or Suspension(())
