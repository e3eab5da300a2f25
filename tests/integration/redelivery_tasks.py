"""Tasks and a job that must not run twice, and one that may."""

import os
import signal
import time
from pathlib import Path

from cgk_tasks import JobContext, RetryConfig, app, define_job
from cgk_tasks.events import TenantEvent


class Charged(TenantEvent, event="redelivery.charged"):
    """Notes that it begins, and then kills its process the first times."""

    path: str
    deaths: int = 1


def _charge(path, deaths=1):
    with Path(path).open("a") as file:
        file.write("charged\n")
    if len(Path(path).read_text().splitlines()) <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@app.task(redelivery=False)
def once(path, deaths=1):
    return _charge(path, deaths)


@app.task(acks_late=False)
def acknowledged_early(path):
    return _charge(path)


@app.task(acks_late=True)
def acknowledged_late(path):
    return _charge(path)


@app.task(bind=True, redelivery=False)
def once_with_retry(self, path):
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return _charge(path)


@app.task(redelivery=False)
def takes_long_once(path):
    with Path(path).open("a") as file:
        file.write("begun\n")
    time.sleep(60)


@define_job("charge-once", event=Charged, retry=RetryConfig(max_attempts=5), redelivery=False)
def charge(ctx: JobContext[Charged]) -> str:
    return _charge(ctx.payload.path, ctx.payload.deaths)
