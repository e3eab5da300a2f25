"""Jobs with limits, which say who else was on while they ran."""

import os
import signal
import time
from pathlib import Path

from cgk_tasks import JobContext, RetryConfig, WorkflowContext, define_job, define_workflow
from cgk_tasks.admission.rules import AtOnce, Throttle
from cgk_tasks.events import TenantEvent
from cgk_tasks.worker.processes import is_alive


class Work(TenantEvent, event="limits.work"):
    """At most two of a tenant, three in all, one of a shop."""

    path: str
    shop_id: str = "s"
    seconds: float = 0.1
    action: str = ""


def others(ctx: JobContext[Work] | WorkflowContext[Work]) -> list[str]:
    """Who is on, as `tenant.shop`. A process that was killed has left its name, and is not."""
    names = [path.name.split(".") for path in Path(ctx.payload.path).iterdir() if "." in path.name]
    return sorted(f"{tenant}.{shop}" for tenant, shop, pid, _run in names if is_alive(int(pid)))


def run(ctx: JobContext[Work] | WorkflowContext[Work]) -> list[str]:
    folder = Path(ctx.payload.path)
    mine = folder / f"{ctx.tenant_id}.{ctx.payload.shop_id}.{os.getpid()}.{ctx.run_id}"
    mine.touch()
    with (folder / "order").open("a") as order:
        order.write(f"{ctx.run_id}\n")
    try:
        if ctx.payload.action == "fail once" and isinstance(ctx, JobContext) and ctx.attempt == 1:
            raise ValueError("once")
        if ctx.payload.action == "die once" and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if ctx.payload.action == "wait":
            while not (folder / "go").exists():
                time.sleep(0.02)
        time.sleep(ctx.payload.seconds)
        return others(ctx)
    finally:
        mine.unlink(missing_ok=True)


@define_job(
    "limits-work",
    event=Work,
    limits=[AtOnce(2), AtOnce(3, per="all"), AtOnce(1, key="shopId")],
    retry=RetryConfig(initial_delay=0.1, jitter=False),
)
def work(ctx: JobContext[Work]) -> list[str]:
    return run(ctx)


class Single(Work, event="limits.single"):
    """One at once of a tenant, as short as it is."""


@define_job("limits-single", event=Single, limits=[AtOnce(1)], retry=RetryConfig(initial_delay=0.1, jitter=False))
def single(ctx: JobContext[Single]) -> list[str]:
    return run(ctx)


class Two(Work, event="limits.two"):
    """Of its two jobs one is limited."""


@define_job("limits-two-free", event=Two)
def free(ctx: JobContext[Two]) -> str:
    return ctx.run_id


@define_job("limits-two-one", event=Two, limits=[AtOnce(1)])
def one_of_two(ctx: JobContext[Two]) -> list[str]:
    return run(ctx)


class Paced(TenantEvent, event="limits.paced"):
    """Ten in a second, two of them at once."""


@define_job("limits-paced", event=Paced, limits=[Throttle(10, every=1, burst=2)])
def paced(ctx: JobContext[Paced]) -> float:
    return time.time()


class Walk(Work, event="limits.walk"):
    """Waits for a signal, and then does what the others do."""


@define_workflow("limits-walk", event=Walk, limits=[AtOnce(1)])
def walk(wf: WorkflowContext[Walk]) -> list[str]:
    wf.wait_for_signal("go")
    return run(wf)


class Steps(TenantEvent, event="limits.steps"):
    """Three legs."""


@define_workflow("limits-steps", event=Steps, limits=[Throttle(10, every=1, burst=2)])
def steps(wf: WorkflowContext[Steps]) -> list[float]:
    begun = []
    for number in range(3):
        begun.append(wf.now().timestamp())
        wf.sleep(f"pause-{number}", 0.001)
    return begun
