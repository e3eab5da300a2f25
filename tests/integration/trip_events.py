"""An event that workflows wait for, for a worker that knows it without them."""

from cgk_tasks.events import TenantEvent


class TripPaid(TenantEvent, event="test.tripPaid"):
    trip_id: str
    amount: int = 1
