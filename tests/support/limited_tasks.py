"""Tasks with time limits."""

import os
import time

from celery.exceptions import SoftTimeLimitExceeded

from cgk_tasks import app

if seconds_of_all := os.environ.get("LIMITED_TASKS_SOFT"):
    app.conf.task_soft_time_limit = float(seconds_of_all)


def _wait(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


@app.task(soft_time_limit=0.5)
def cleans_up(seconds):
    """Takes `seconds` to clean up after its soft limit."""
    try:
        _wait(20)
    except SoftTimeLimitExceeded as exc:
        _wait(seconds)
        return type(exc).__name__
    return "no limit"


@app.task
def takes(seconds):
    _wait(seconds)
    return "done"


@app.task(time_limit=1)
def ends_at_its_own_limit():
    _wait(20)


@app.task(bind=True)
def limits_of_request(self):
    return list(self.request.timelimit)


@app.task(bind=True, time_limit=40, soft_time_limit=35)
def limits_of_its_own(self):
    return [self.request.time_limit, self.request.soft_time_limit]
