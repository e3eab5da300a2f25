"""Functions for `--map`, as an application has them."""

from contextlib import contextmanager

from cgk_tasks import RateLimit, SendItem, define_job
from cgk_tasks.bridges.bullmq import BullMQJob
from cgk_tasks.events import TenantEvent
from cgk_tasks.jobs.registry import remove_job


class Limited(TenantEvent, event="test.bridgeLimited"):
    """Of which one is accepted in an hour."""

    argument: str


def mapped(job: BullMQJob):
    payload = {"tenantId": "globex", "action": "echo", "argument": f"mapped: {job.data['argument']}"}
    return SendItem("test.behave", payload)


def limited(job: BullMQJob):
    return Limited(tenant_id="acme", argument=job.data["argument"])


@contextmanager
def one_in_an_hour():
    define_job("test-bridge-limited", event=Limited, limits=[RateLimit(1, every=3600)])(lambda ctx: None)
    try:
        yield
    finally:
        remove_job("test-bridge-limited")
