"""Workflows that ask a person by an address; the worker of the tests imports them."""

from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from cgk_tasks import AsyncWorkflowContext, WorkflowContext, define_workflow
from cgk_tasks.events import TenantEvent


class Decision(BaseModel):
    approved: bool


class Asked(TenantEvent, event="test.askedByUrl"):
    notes: str
    valid: float = 600.0


class AskedAsync(TenantEvent, event="test.askedByUrlAsync"):
    notes: str


@define_workflow("asked-by-url", event=Asked)
def asked_by_url(wf: WorkflowContext[Asked]) -> object:
    valid = timedelta(seconds=wf.payload.valid)
    yes = wf.signal_url("decision", valid=valid, payload=Decision(approved=True))
    no = wf.signal_url("decision", valid=valid, payload={"approved": False})
    with Path(wf.payload.notes).open("a") as notes:
        notes.write(f"{yes} {no}\n")
    decision = wf.wait_for_signal("decision", Decision, timeout=timedelta(minutes=5))
    return None if decision is None else decision.approved


@define_workflow("asked-by-url-async", event=AskedAsync)
async def asked_by_url_async(wf: AsyncWorkflowContext[AskedAsync]) -> object:
    url = await wf.signal_url("go on")
    Path(wf.payload.notes).write_text(f"{url}\n")  # noqa: ASYNC240 - a short file of the test
    return await wf.wait_for_signal("go on", timeout=timedelta(minutes=5))
