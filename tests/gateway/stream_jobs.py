"""A job that tells how far it is, and goes on when the test says so."""

from pathlib import Path
from typing import Annotated

from cgk_tasks import JobContext, PermanentError, define_job
from cgk_tasks.events import Sensitive, TenantEvent
from tests.support.waiting import wait_until


class Streamed(TenantEvent, event="test.streamed"):
    """Asks for a job that is watched."""

    gate: str
    """The job goes on when this file is there."""
    email: Annotated[str, Sensitive()] = ""
    fails: bool = False


@define_job("test-streamed", event=Streamed)
def streamed(ctx: JobContext[Streamed]) -> dict[str, str]:
    ctx.metadata["rows"] = {"count": 4, "to": ctx.payload.email}
    ctx.progress(1, 4, f"mail to {ctx.payload.email}")
    wait_until(Path(ctx.payload.gate).exists, 60, "the gate is open")
    if ctx.payload.fails:
        raise PermanentError(f"{ctx.payload.email} is not known", code="NOT_KNOWN")
    ctx.progress(4, 4, "all sent")
    return {"sent to": ctx.payload.email}
