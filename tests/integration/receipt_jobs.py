"""A job for an event that workflows of other workers wait for."""

from cgk_tasks import JobContext, define_job
from tests.integration.trip_events import TripPaid


@define_job("receipt", event=TripPaid)
def receipt(ctx: JobContext[TripPaid]) -> int:
    return ctx.payload.amount
