"""The application of the upgrade tests. It runs under the code of every kept release: public names of cgk_tasks only.

Each row that a job writes with `ctx.db` has a key, so that one that is missing or doubled is seen.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

import cgk_tasks
from cgk_tasks import (
    JobContext,
    PermanentError,
    RetryConfig,
    TenantEvent,
    TransientError,
    app,
    define_cron_job,
    define_job,
    send_job,
)

SIDE = os.environ["UPGRADE_SIDE"]
"""`old` or `new`."""
JOURNAL = Path(os.environ["UPGRADE_JOURNAL"])
CODE = Path(os.environ["UPGRADE_CODE"])

if not Path(cgk_tasks.__file__).is_relative_to(CODE):
    raise SystemExit(f"the {SIDE} side runs {cgk_tasks.__file__}, which is not below {CODE}")

SOON = RetryConfig(max_attempts=5, initial_delay=0.05, max_delay=0.3)


class Upgrade(TenantEvent):
    """sender: the side that sent it. key: of the row that its job writes."""

    sender: str
    key: str


class Write(Upgrade, event="upgrade.write"):
    seconds: float = 0.0


class Both(Upgrade, event="upgrade.both"):
    """Has two jobs."""


class Flaky(Upgrade, event="upgrade.flaky"):
    """Fails in its first attempt."""


class Hopeless(Upgrade, event="upgrade.hopeless"):
    """Fails for good."""


class Steps(Upgrade, event="upgrade.steps"):
    """Goes three steps, with a failure in the midst of them."""


class Long(Upgrade, event="upgrade.long"):
    """Runs until it is cancelled."""


class Limited(Upgrade, event="upgrade.limited"):
    """Its job runs once at a time for a tenant."""


class Sends(Upgrade, event="upgrade.sends"):
    """Sends another event in its own transaction."""


if SIDE == "new":

    class Added(Upgrade, event="upgrade.added"):
        """An event that came with this deploy: old workers do not know it."""


def connect_tenant(tenant, connection) -> None:
    """CGK_TENANT_SETUP. No unique key: a doubled row must be seen, not refused."""
    connection.execute("CREATE TABLE IF NOT EXISTS written (key text NOT NULL)")


@contextmanager
def noted(run_id: str, kind: str, sender: str) -> Iterator[None]:
    """Note start and end, or that the worker's stop ended the attempt, which does not count then.

    The lock goes with the process however it ends: who does not get it is the second one.
    """
    with alone(run_id), (JOURNAL / f"{SIDE}-{os.getpid()}").open("a", buffering=1) as journal:
        journal.write(f"start {run_id} {kind} {sender} {SIDE}\n")
        try:
            yield
        except BaseException as exc:
            if type(exc).__name__ == "RunInterrupted":
                journal.write(f"interrupted {run_id} {kind} {sender} {SIDE}\n")
            raise
        journal.write(f"end {run_id} {kind} {sender} {SIDE}\n")


@contextmanager
def alone(name: str) -> Iterator[None]:
    with (JOURNAL / "locks" / name).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            (JOURNAL / "overlaps" / f"{name}-{os.getpid()}").touch()
        yield


def job(ctx: JobContext):
    return noted(ctx.run_id, ctx.event, ctx.payload.sender)


def write(ctx: JobContext, key: str) -> None:
    ctx.db.execute(text("INSERT INTO written (key) VALUES (:key)"), {"key": key})


@define_job("upgrade-write", event=Write, retry=SOON)
def write_one(ctx: JobContext[Write]) -> str:
    with job(ctx):
        write(ctx, ctx.payload.key)
        time.sleep(ctx.payload.seconds)
    return ctx.payload.key


@define_job("upgrade-first", event=Both, retry=SOON)
def first(ctx: JobContext[Both]) -> None:
    with job(ctx):
        write(ctx, f"{ctx.payload.key}-first")


@define_job("upgrade-second", event=Both, retry=SOON)
def second(ctx: JobContext[Both]) -> None:
    with job(ctx):
        write(ctx, f"{ctx.payload.key}-second")


@define_job("upgrade-flaky", event=Flaky, retry=SOON)
def flaky(ctx: JobContext[Flaky]) -> None:
    with job(ctx):
        write(ctx, ctx.payload.key)
        if ctx.attempt == 1:
            raise TransientError("the first attempt fails")


@define_job("upgrade-hopeless", event=Hopeless, retry=SOON)
def hopeless(ctx: JobContext[Hopeless]) -> None:
    with job(ctx):
        write(ctx, ctx.payload.key)
        raise PermanentError("it never works")


@define_job("upgrade-steps", event=Steps, retry=SOON)
def steps(ctx: JobContext[Steps]) -> None:
    with job(ctx):
        for step in range(ctx.cursor or 0, 3):
            write(ctx, f"{ctx.payload.key}-{step}")
            if step == 1 and ctx.attempt == 1:
                raise TransientError("in the second step")
            ctx.checkpoint(step + 1)


@define_job("upgrade-long", event=Long, retry=SOON)
def long(ctx: JobContext[Long]) -> None:
    with job(ctx):
        write(ctx, ctx.payload.key)
        for _ in range(10_000):
            time.sleep(0.02)


@define_job("upgrade-limited", event=Limited, retry=SOON, concurrency=1)
def limited(ctx: JobContext[Limited]) -> None:
    with job(ctx), alone(f"limited-{ctx.tenant_id}"):
        write(ctx, ctx.payload.key)


@define_job("upgrade-sends", event=Sends, retry=SOON)
def sends(ctx: JobContext[Sends]) -> None:
    with job(ctx):
        write(ctx, ctx.payload.key)
        follower = Write(tenant_id=ctx.tenant_id, sender=SIDE, key=f"{ctx.payload.key}-follower")
        send_job(follower, session=ctx.db)


if SIDE == "new":

    @define_job("upgrade-added", event=Added, retry=SOON)
    def added(ctx: JobContext[Added]) -> None:
        with job(ctx):
            write(ctx, ctx.payload.key)


@define_cron_job("upgrade-tick", schedule="every 1s", misfire="all", overlap="allow", retry=SOON)
def tick(ctx: JobContext) -> None:
    with noted(ctx.run_id, "tick", "beat"):
        write(ctx, f"tick-{ctx.scheduled_for.isoformat()}-{ctx.tenant_id}")


@app.task(bind=True, name="upgrade.add")
def add(self, x, y, sender):
    with noted(self.request.id, "upgrade.add", sender):
        return x + y


@app.task(bind=True, name="upgrade.total")
def total(self, numbers, sender):
    with noted(self.request.id, "upgrade.total", sender):
        return sum(numbers)
