"""Jobs and an event of the tests of the dashboard's pages of events and jobs."""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field

from cgk_tasks import AtOnce, JobContext, RateLimit, RetryConfig, Singleton, define_job
from cgk_tasks.events import OrderCreated, TenantEvent, WireModel
from cgk_tasks.events.fields import Sensitive, Timestamp


class Address(WireModel):
    """Where it goes."""

    street: Annotated[str, Sensitive()]
    zip_code: str | None = None


class ParcelPacked(TenantEvent, event="parcel.packed"):
    """A parcel is ready for its carrier."""

    parcel_id: str
    weight: Annotated[float, Field(gt=0, le=30, title="Weight in kg")]
    carrier: Literal["post", "courier"] = "post"
    is_fragile: bool = False
    ready_at: Timestamp | None = None
    due: date | None = None
    labels: list[str] = []
    address: Address | None = None
    phone: Annotated[str, Sensitive()] | None = None


class CallFlood(TenantEvent, event="parcel.flood"):
    """Of which few are accepted."""

    number: int = 0


class ParcelSeen(TenantEvent, event="parcel.seen", durable=False):
    """Telemetry."""

    at: datetime


@define_job("tell-carrier", event=ParcelPacked, retry=RetryConfig(max_attempts=5), timeout=60,
            limits=[AtOnce(3), Singleton(key="parcelId")], ttl=3600, queue="parcels")  # fmt: skip
def tell_carrier(ctx: JobContext[ParcelPacked]) -> str:
    """Tells the carrier that a parcel waits.

    More about it.
    """
    return ctx.payload.parcel_id


@define_job("flood", event=CallFlood, limits=[RateLimit(1, every=3600)])
def flood(ctx: JobContext[CallFlood]) -> None:
    """Does nothing."""


@define_job("parcel-receipt", event=OrderCreated)
def send_receipt(ctx: JobContext[OrderCreated]) -> None:
    """Sends a receipt."""
