"""Experiments and their results."""

from typing import Literal

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import RecordId, Timestamp


class AbTestCreated(TenantEvent, event="ab.testCreated", category="abTesting"):
    """An experiment was set up."""

    test_id: RecordId
    name: str
    variants: int = Field(description="How many there are.")


class AbTestStarted(TenantEvent, event="ab.testStarted", category="abTesting"):
    """An experiment began to take visitors."""

    test_id: RecordId


class AbTestEnded(TenantEvent, event="ab.testEnded", category="abTesting"):
    """An experiment ended, perhaps with a winner."""

    test_id: RecordId
    winning_variant: str | None = None


class AbMetricsAggregate(TenantEvent, event="ab.metricsAggregate", category="abTesting"):
    """The figures of one experiment, or of all, are to be summed up for a period."""

    period: Literal["hourly", "daily", "full"]
    test_id: RecordId | None = None


class AbOptimize(TenantEvent, event="ab.optimize", category="abTesting"):
    """Traffic is to be shifted towards the variants that do better."""

    test_id: RecordId | None = None
    algorithm: Literal["mab", "thompson"] | None = None


class AbOrderReconcile(TenantEvent, event="ab.orderReconcile", category="abTesting"):
    """Orders are to be matched with the variants that their buyers saw."""

    order_id: RecordId | None = None
    start_date: Timestamp | None = None


class AbScheduleTests(TenantEvent, event="ab.scheduleTests", category="abTesting"):
    """Experiments whose start or end has come are to be started or ended."""


class AbSyncCounters(TenantEvent, event="ab.syncCounters", category="abTesting"):
    """The counters of running experiments are to be copied from the cache to the database."""


class AbOptimizationSummary(TenantEvent, event="ab.optimizationSummary", category="abTesting"):
    """A summary of how traffic was shifted is to be sent."""

    period: Literal["daily", "weekly"]
