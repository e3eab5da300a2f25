"""Helpers for an application's own tests, and an opt-in pytest plugin.

    pytest_plugins = ["cgk_tasks.testing.plugin"]      # in conftest.py

`run_job` runs one attempt of a job, here and now. `LocalJobs` runs everything that is sent, in this process.
`prove_idempotent` lets a job's process die at each step, and compares what it has done.
`private_services` gives a real PostgreSQL and Redis for the tests that need them.
"""

from cgk_tasks.testing.attempt import run_job
from cgk_tasks.testing.idempotency import NotIdempotentError, Proof, prove_idempotent
from cgk_tasks.testing.local_jobs import LocalJobs
from cgk_tasks.testing.services import private_services

__all__ = ["LocalJobs", "NotIdempotentError", "Proof", "private_services", "prove_idempotent", "run_job"]
