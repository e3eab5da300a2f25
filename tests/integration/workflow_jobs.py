"""Workflows that the worker of the tests imports. What they do, they note in a file."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy import text

from cgk_tasks import (
    AsyncWorkflowContext,
    JobContext,
    RetryConfig,
    RetryLater,
    TransientError,
    WorkflowContext,
    define_job,
    define_workflow,
)
from cgk_tasks.events import TenantEvent
from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.workflows.effects import Reconciled
from tests.integration.trip_events import TripPaid

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
    timeout: float | None = None


class ChosenTrip(TenantEvent, event="test.chosenTrip"):
    seconds: float = 3600


class CrowdedTrip(TenantEvent, event="test.crowdedTrip"):
    pass


class RestlessTrip(TenantEvent, event="test.restlessTrip"):
    trip_id: str


class WildTrip(TenantEvent, event="test.wildTrip"):
    notes: str
    seed: int
    length: int = 8
    most_deaths: int = 2


class GuidedTrip(TenantEvent, event="test.guidedTrip"):
    trip_id: str


class PaidTrip(TenantEvent, event="test.paidTrip"):
    trip_id: str
    times: int = 1
    seconds: float = 3600


class CarefulTrip(TenantEvent, event="test.carefulTrip"):
    notes: str
    dies_after: int = 0
    dies_in_effect: bool = False


class Answer(BaseModel):
    by: str


def note(notes: str, what: str) -> str:
    with Path(notes).open("a", encoding="ascii") as file:
        file.write(f"{what}\n")
    return what


def noted(notes: str) -> list[str]:
    path = Path(notes)
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


def rows_of(run_id: str) -> list[str]:
    """What a run of acme has written."""
    with autocommit() as connection:
        rows = fetch(connection, "SELECT note FROM tenant_acme.orders WHERE run_id = %(id)s", {"id": run_id})
    return sorted(row["note"] for row in rows)


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


def dies_after(statements: int) -> door.Observer:
    """Ends this process when so many more statements of cgk_tasks have run in it."""
    left = count(statements - 1, -1)

    def observer(*_told: object) -> None:
        if next(left) <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return observer


@define_workflow("careful-trip", event=CarefulTrip)
def careful_trip(wf: WorkflowContext[CarefulTrip]) -> int:
    wish, payments = wf.payload, f"{wf.payload.notes}.payments"

    def write(what: str) -> None:
        wf.db.execute(
            text("INSERT INTO orders (order_id, run_id, note) VALUES ('trip', :run, :note)"),
            {"run": wf.run_id, "note": what},
        )

    def pay(key: str) -> int:
        note(payments, key)
        if wish.dies_in_effect and len(noted(payments)) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return 1

    def find(key: str) -> int | Reconciled:
        return 1 if key in noted(payments) else Reconciled.NOT_DONE

    if wish.dies_after and not noted(wish.notes):
        note(wish.notes, "armed")
        door.observe(dies_after(wish.dies_after))
    wf.step("book", write, "book")
    paid = wf.effect("pay", pay, reconcile=find)
    wf.wait_for_signal("go")
    wf.sleep("night", 0)
    wf.step("leave", write, "leave")
    return paid


@define_workflow("chosen-trip", event=ChosenTrip)
def chosen_trip(wf: WorkflowContext[ChosenTrip]) -> list[str]:
    seconds = wf.payload.seconds
    first = wf.wait_any("way", train=wf.signal("train", Answer), ship=wf.signal("ship"), late=wf.timer(seconds))
    return [first.name, first.value.by if first.value else ""]


@define_workflow("crowded-trip", event=CrowdedTrip)
def crowded_trip(wf: WorkflowContext[CrowdedTrip]) -> list[str]:
    def write(what: str) -> str:
        wf.db.execute(
            text("INSERT INTO orders (order_id, run_id, note) VALUES ('trip', :run, :note)"),
            {"run": wf.run_id, "note": what},
        )
        return what

    return list(wf.parallel("pack", ada=lambda: write("ada"), bob=lambda: write("bob"), eve=lambda: write("eve")))


@define_workflow("paid-trip", event=PaidTrip, waits_for=[(TripPaid, "tripId")])
def paid_trip(wf: WorkflowContext[PaidTrip]) -> list[int]:
    trip, seconds = wf.payload.trip_id, wf.payload.seconds
    found = [wf.wait_for_event(TripPaid, match=trip, timeout=seconds) for _ in range(wf.payload.times)]
    return [paid.amount if paid else 0 for paid in found]


@define_workflow("restless-trip", event=RestlessTrip, waits_for=[(TripPaid, "tripId")])
async def restless_trip(wf: AsyncWorkflowContext[RestlessTrip]) -> str:
    """A step of it is tried again in an hour; it ends with the first signal or event."""

    def fail() -> None:
        raise RetryLater(3600, "the ferry is late")

    async def signal() -> str:
        return "signal" if await wf.wait_for_signal("go") is None else "other"

    async def event() -> str:
        await wf.wait_for_event(TripPaid, match=wf.payload.trip_id)
        return "event"

    branches = [asyncio.create_task(one) for one in (wf.step("ferry", fail), signal(), event())]
    done, _ = await asyncio.wait(branches, return_when=asyncio.FIRST_COMPLETED)
    return str(done.pop().result())


@define_workflow("guided-trip", event=GuidedTrip, waits_for=[(TripPaid, "tripId")])
def guided_trip(wf: WorkflowContext[GuidedTrip]) -> int:
    paid = wf.wait_for_event(TripPaid, match=wf.payload.trip_id)
    answers = [wf.wait_for_signal("answer", Answer) for _ in range(2)]
    return len(answers) + (paid.amount if paid else 0)


@define_job("guide", event=GuidedTrip)
def guide(ctx: JobContext[GuidedTrip]) -> None:
    """Its event has two jobs, so each has a child run."""


WILD = ["write", "pay", "sleep", "signal", "event", "invoke"]


class WildChild(TenantEvent, event="test.wildChild"):
    trip: str
    note: str


@define_job("wild-child", event=WildChild)
def wild_child(ctx: JobContext[WildChild]) -> None:
    ctx.db.execute(
        text("INSERT INTO orders (order_id, run_id, note) VALUES ('trip', :run, :note)"),
        {"run": ctx.payload.trip, "note": ctx.payload.note},
    )


@define_workflow("wild-trip", event=WildTrip, waits_for=[(TripPaid, "tripId")])
def wild_trip(wf: WorkflowContext[WildTrip]) -> int:
    """Steps, effects and waits by chance, in a process that dies after any statement, so many times in all."""
    wish, chance = wf.payload, random.Random(wf.payload.seed)
    deaths, payments = f"{wish.notes}.deaths", f"{wish.notes}.payments"

    def write(what: str) -> None:
        wf.db.execute(
            text("INSERT INTO orders (order_id, run_id, note) VALUES ('trip', :run, :note)"),
            {"run": wf.run_id, "note": what},
        )

    def pay(key: str) -> str:
        return note(payments, key)

    def find(key: str) -> str | Reconciled:
        return key if key in noted(payments) else Reconciled.NOT_DONE

    if len(noted(deaths)) < wish.most_deaths and random.random() < 0.7:
        note(deaths, "armed")
        door.observe(dies_after(random.randint(1, 12)))
    acts: dict[str, Callable[[str], object]] = {
        "write": lambda name: wf.step(name, write, name),
        "pay": lambda name: wf.effect(name, pay, reconcile=find),
        "sleep": lambda name: wf.sleep(name, 0.05),
        "signal": lambda _name: wf.wait_for_signal("go"),
        "event": lambda _name: wf.wait_for_event(TripPaid, match=wf.run_id),
        "invoke": lambda name: wf.invoke(name, "test.wildChild", {"trip": wf.run_id, "note": name}),
    }
    for number in range(wish.length):
        acts[chance.choice(WILD)](f"{number}")
    return wish.length
