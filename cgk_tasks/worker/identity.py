"""Who this worker is: one id for a worker's main process and all its children, new at every start."""

from __future__ import annotations

import os
import uuid

_VARIABLE = "CGK_WORKER_ID"


def new_worker_id() -> str:
    """Give this process and those it starts a new identity. Called once when a worker starts."""
    worker_id = str(uuid.uuid4())
    os.environ[_VARIABLE] = worker_id
    return worker_id


def worker_id() -> str:
    """The id of the worker that this process belongs to; made at first use where there is none (an embedded worker)."""
    return os.environ.get(_VARIABLE) or new_worker_id()


def forget_worker_id() -> None:
    """The worker inside this process has ended; the processes that it starts are not part of one."""
    os.environ.pop(_VARIABLE, None)
