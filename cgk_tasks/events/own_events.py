"""Events that belong to one job: `cron.nightlyReport`, `job.commerceSyncOrder`. Their models are made at first use."""

from __future__ import annotations

from typing import Any, Final, cast

from cgk_tasks.events.base import EVENTS_BY_NAME, TenantEvent
from cgk_tasks.events.catalog import catalog_jobs
from cgk_tasks.events.fields import PersonalData
from cgk_tasks.events.naming import class_name

ON_DEMAND: Final = "job."
"""How the event of a job begins that is called by its id."""


class OnDemand(TenantEvent):
    """A job that no other event means is to run. The catalog does not say what it is given: free JSON, in `data`."""

    data: PersonalData | None = None


def own_event_name(prefix: str, job_id: str) -> str:
    """`own_event_name("cron.", "nightly-report") == "cron.nightlyReport"`."""
    first, *rest = [part for part in job_id.replace("_", "-").replace(".", "-").split("-") if part]
    return f"{prefix}{first[0].lower()}{first[1:]}{''.join(part[0].upper() + part[1:] for part in rest)}"


def make_event(name: str, meaning: str, base: type[TenantEvent] = TenantEvent) -> type[TenantEvent]:
    """The model of an event that has none yet. Raises TypeError for a name that no event can have."""
    make: Any = type
    return cast(
        "type[TenantEvent]", make(class_name(name), (base,), {"__doc__": meaning, "__module__": __name__}, event=name)
    )


def on_demand_event(name: str) -> type[TenantEvent] | None:
    """The event of a job of the catalog that is called by its id; None for any other name."""
    if not name.startswith(ON_DEMAND):
        return None
    job_id = next((job.id for job in getattr(catalog_jobs(), "JOBS", ()) if job.event == name), None)
    if job_id is None:
        return None
    return EVENTS_BY_NAME.get(name) or make_event(name, f"{job_id} is to run.", OnDemand)
