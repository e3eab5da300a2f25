"""A replay that only reads: whether a function still goes along what a run has done, up to what is not done yet.

No step is done, nothing is looked for and nothing is written. What the function does outside of steps it does, as in
each leg; whoever replays closes what leads out of the process.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.redaction import Redaction
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.steps import Memo, StepKind
from cgk_tasks.runs.text import text_of
from cgk_tasks.runs.undo import undo_of
from cgk_tasks.tenancy.context import tenant_context
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.workflows.calling import called
from cgk_tasks.workflows.calls import Call
from cgk_tasks.workflows.define import Workflow
from cgk_tasks.workflows.leg import Leg
from cgk_tasks.workflows.suspension import WorkflowContinued, WorkflowStopped, WorkflowSuspended

_WAITS: Final[frozenset[StepKind]] = frozenset({"sleep", "signal", "event", "any", "invoke", "gather"})


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run of a workflow with its memos. text: its payload as JSON."""

    id: str
    tenant: Tenant
    event: TenantEvent
    text: str
    memos: Sequence[Memo]


class _Read:
    """The steps of a run as they were read; there is no way to write."""

    def __init__(self) -> None:
        self.at_failure: Memo | None = None
        self.compensates = True  # so that nobody writes that it does
        self.is_undone = False

    def load(self) -> Sequence[Memo]:
        self._refuse()

    def keep(self, *_: Any) -> Memo:
        self._refuse()

    def take(self, *_: Any) -> Memo | None:
        self._refuse()

    def gather(self, *_: Any) -> Memo | None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise AssertionError("A replay that only reads came to a step that is to be done.")


class _ReadLeg(Leg):
    """Stops at the first step that is not over on record, where another leg would do it or wait for it."""

    is_plain = True

    def _ask(self, name: str, kind: StepKind) -> Call:
        call = super()._ask(name, kind)
        if not call.is_over:
            is_due = call.memo is not None and call.memo.is_due
            if self.is_plain and kind in _WAITS and not is_due:
                self.check_all_asked()  # as at each wait of a function whose steps come one by one
            raise WorkflowStopped
        return call


def problem_of(workflow: Workflow, run: OpenRun) -> str | None:
    """Why the run would not go on with this code, without personal data; None if it would, or if there is no function
    for its version.
    """
    begin = next((memo for memo in run.memos if memo.kind == "begin"), None)
    number = int(decode((begin.result if begin is not None else None) or "{}").get("version", 1))
    version = workflow.version_for(number)
    if version is None or undo_of(run.memos) is not None:
        return None
    leg = _ReadLeg(_Read(), workflow.id, version.names, workflow.retry, run.memos, begin, version.waits_for)
    leg.is_plain = not inspect.iscoroutinefunction(version.function)
    ctx: JobContext[Any] = JobContext(
        job_id=workflow.id, run_id=run.id, event=workflow.event, tenant=run.tenant, payload=run.event
    )
    try:
        with tenant_context(run.tenant):
            called(version.function, ctx, leg, number)
            leg.check_all_asked()
    except (WorkflowStopped, WorkflowSuspended, WorkflowContinued):
        return None
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # noqa: BLE001 - whatever would end its run
        hide = Redaction(workflow.event, decode(run.text))
        return hide.text(f"{type(exc).__name__}: {text_of(exc)}")
    return None
