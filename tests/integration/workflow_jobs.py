"""Workflows that the worker of the tests imports. What they do, they note in a file."""

import asyncio
import os
import signal
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy import text

from cgk_tasks import AsyncWorkflowContext, RetryConfig, TransientError, WorkflowContext, define_workflow
from cgk_tasks.events import TenantEvent

QUICK = RetryConfig(max_attempts=3, initial_delay=0.05, max_delay=0.2)


class Trip(TenantEvent, event="test.trip"):
    notes: str


class DeadlyTrip(TenantEvent, event="test.deadlyTrip"):
    notes: str


class ShakyTrip(TenantEvent, event="test.shakyTrip"):
    notes: str


class SharedTrip(TenantEvent, event="test.sharedTrip"):
    notes: str


class LongTrip(TenantEvent, event="test.longTrip"):
    notes: str


class AskedTrip(TenantEvent, event="test.askedTrip"):
    timeout: float = 3600


class Answer(BaseModel):
    by: str


def note(notes: str, what: str) -> str:
    with Path(notes).open("a", encoding="ascii") as file:
        file.write(f"{what}\n")
    return what


def noted(notes: str) -> list[str]:
    path = Path(notes)
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


@define_workflow("trip", event=Trip)
def trip(wf: WorkflowContext[Trip]) -> list[str]:
    began = wf.now()
    packed = wf.step("pack", note, wf.payload.notes, "pack")
    wf.sleep("night", 0.3)
    left = [wf.step("leave", note, wf.payload.notes, f"leave {number}") for number in range(2)]
    wf.sleep_until("arrival", began)
    return [packed, *left]


@define_workflow("deadly-trip", event=DeadlyTrip)
def deadly_trip(wf: WorkflowContext[DeadlyTrip]) -> int:
    def write(what: str) -> None:
        wf.db.execute(
            text("INSERT INTO orders (order_id, run_id, note) VALUES ('trip', :run, :note)"),
            {"run": wf.run_id, "note": what},
        )
        note(wf.payload.notes, what)

    def die_once(what: str) -> None:
        write(what)
        if noted(wf.payload.notes).count(what) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    wf.step("before", write, "before")
    wf.step("deadly", die_once, "deadly")
    wf.step("after", write, "after")
    return len(noted(wf.payload.notes))


@define_workflow("shaky-trip", event=ShakyTrip, retry=QUICK)
def shaky_trip(wf: WorkflowContext[ShakyTrip]) -> int:
    def shaky() -> int:
        note(wf.payload.notes, "shaky")
        if len(noted(wf.payload.notes)) < 4:
            raise TransientError("the ferry is late", "FERRY_LATE")
        return len(noted(wf.payload.notes))

    wf.step("steady", note, wf.payload.notes, "steady")
    return wf.step("shaky", shaky)


@define_workflow("shared-trip", event=SharedTrip)
async def shared_trip(wf: AsyncWorkflowContext[SharedTrip]) -> list[str]:
    async def drive(who: str) -> str:
        return note(wf.payload.notes, who)

    await asyncio.gather(wf.step("ada", drive, "ada"), wf.step("bob", drive, "bob"), wf.sleep("rest", 0.2))
    return [await wf.step("arrive", note, wf.payload.notes, "arrive")]


@define_workflow("long-trip", event=LongTrip)
def long_trip(wf: WorkflowContext[LongTrip]) -> None:
    wf.step("pack", note, wf.payload.notes, "pack")
    wf.sleep("voyage", 3600)


@define_workflow("asked-trip", event=AskedTrip)
def asked_trip(wf: WorkflowContext[AskedTrip]) -> list[Answer | None]:
    return [wf.wait_for_signal("answer", Answer, timeout=wf.payload.timeout) for _ in range(2)]
