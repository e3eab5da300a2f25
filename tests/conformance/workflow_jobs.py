"""Workflows that every engine of ours takes to the same end. How often their functions began, they note in a file."""

from pathlib import Path
from typing import Any

from cgk_tasks import JobContext, RetryLater, WorkflowContext, define_job, define_workflow
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ChildFailedError, PayloadTooLargeError, StepFailedError
from cgk_tasks.events import TenantEvent


class Parcel(TenantEvent, event="conformance.parcel"):
    bytes: int = 0


class Pair(TenantEvent, event="conformance.pair"):
    """Two jobs are for it."""


class Courier(TenantEvent, event="conformance.courier"):
    """Invokes others. how: which."""

    how: str = ""
    notes: str = ""


class Crowd(TenantEvent, event="conformance.crowd"):
    legs: str


class Relay(TenantEvent, event="conformance.relay"):
    round: int = 0


class Ping(TenantEvent, event="conformance.ping"):
    key: str


@define_job("parcel", event=Parcel)
def parcel(ctx: JobContext[Parcel]) -> str:
    return "x" * ctx.payload.bytes


@define_job("pair-small", event=Pair)
def pair_small(ctx: JobContext[Pair]) -> str:
    return "x"


@define_job("pair-large", event=Pair)
def pair_large(ctx: JobContext[Pair]) -> str:
    return "x" * 300_000


def put_off(notes: str) -> int:
    """Twice."""
    with Path(notes).open("a", encoding="ascii") as file:
        file.write("asked\n")
    asked = len(Path(notes).read_text(encoding="ascii").splitlines())
    if asked < 3:
        raise RetryLater(0.05, "the office is closed")
    return asked


@define_workflow("courier", event=Courier)
def courier(wf: WorkflowContext[Courier]) -> Any:
    match wf.payload.how:
        case "large":
            return wf.invoke("parcel", "conformance.parcel", {"bytes": 300_000})
        case "pair":
            return wf.invoke("pair", "conformance.pair")
        case "relay":
            return wf.invoke("relay", "conformance.relay", {"round": 1})
        case "put off":
            return wf.step("later", put_off, wf.payload.notes)
    late = ""
    try:
        wf.invoke("late", "conformance.parcel", delay=3600, timeout=0.05)
    except ChildFailedError as exc:
        late = exc.run_id
    wf.step("after", str)
    return late


@define_workflow("crowd", event=Crowd)
def crowd(wf: WorkflowContext[Crowd]) -> list[str]:
    with Path(wf.payload.legs).open("a", encoding="ascii") as file:
        file.write("leg\n")
    try:
        wf.gather("parcels", [wf.child("conformance.parcel", {"bytes": 200_000}) for _ in range(2)])
    except StepFailedError as exc:
        wf.sleep("night", 0.5)
        return [exc.step, exc.code]
    return []


@define_workflow("relay", event=Relay)
def relay(wf: WorkflowContext[Relay]) -> Any:
    """Begins again once: in the first round after a signal."""
    if wf.payload.round == 0:
        wf.wait_for_signal("go")
    if wf.payload.round < 2:
        wf.continue_as_new({"round": 2})
    return wf.wait_for_signal("go", timeout=20)


@define_workflow("ping", event=Ping, waits_for=[(Ping, "key")])
def ping(wf: WorkflowContext[Ping]) -> bool:
    """Waits for another event of its own kind."""
    wf.step("begin", str)
    return wf.wait_for_event(Ping, match=wf.payload.key, timeout=0.3) is not None


class Spread(TenantEvent, event="conformance.spread"):
    text: str = ""


@define_workflow("spread", event=Spread)
def spread(wf: WorkflowContext[Spread]) -> list[Any]:
    most = get_settings().max_payload_bytes
    try:
        wf.continue_as_new({"text": "x" * most})
    except PayloadTooLargeError as exc:
        return [type(exc).__name__, most]
