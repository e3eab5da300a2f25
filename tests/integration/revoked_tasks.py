"""Tasks that are revoked, purged and rejected."""

import time
from pathlib import Path

from celery.exceptions import Reject

from cgk_tasks import app


@app.task
def add(x, y):
    return x + y


@app.task
def runs_until_told(folder):
    """Says that it runs, and ends when it is told to."""
    (Path(folder) / "runs").touch()
    while not (Path(folder) / "end").exists():
        time.sleep(0.02)
    return "ended"


@app.task(bind=True, max_retries=None)
def retries_when_told(self, folder):
    (Path(folder) / "runs").touch()
    while not (Path(folder) / "end").exists():
        time.sleep(0.02)
    raise self.retry(countdown=0)


@app.task(bind=True)
def rejects_first(self):
    if not self.request.delivery_info["redelivered"]:
        raise Reject("not here", requeue=True)
    return self.request.retries


@app.task
def rejects():
    raise Reject("never", requeue=False)
