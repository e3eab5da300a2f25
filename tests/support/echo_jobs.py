"""A job for every event of the catalog, which gives back what it was sent."""

import json

from cgk_tasks import JobContext, RetryConfig, define_job, tenant_cache
from cgk_tasks.events import EVENT_CATEGORIES, TenantEvent, get_event

ONCE = RetryConfig(max_attempts=1)


def echo(ctx: JobContext[TenantEvent]) -> dict:
    """The payload as it arrived. Telemetry has no result, so its payload goes into the tenant's cache."""
    assert type(ctx.payload) is get_event(ctx.event)
    wire = ctx.payload.to_wire()
    if not ctx.payload.durable:
        tenant_cache().set(f"echo:{ctx.event}", json.dumps(wire), seconds=60)
    return wire


for events in EVENT_CATEGORIES.values():
    for event in events:
        define_job(f"echo-{event}", event=event, retry=ONCE)(echo)
