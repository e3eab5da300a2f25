"""Where the page of a run leads: to its tenant, event, job and schedule, and to its trace in another program."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from cgk_tasks.config.trace_url import PLACE
from cgk_tasks.runs.tracing import TRACE

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_OF_A_TENANT: Final = "tenant:"


def schedule_path(name: str, tenant_id: str) -> tuple[str, dict[str, str]]:
    """Path and query of a schedule's page; of one that a tenant made, of the list that has it."""
    if name.startswith(_OF_A_TENANT):
        return "/schedules/of-tenants", {"tenant": tenant_id}
    return f"/schedules/{quote(name, safe='')}", {}


def trace_link(template: str | None, traceparent: str | None, *, run_id: str, tenant_id: str) -> str | None:
    """The address of a trace, by CGK_TRACE_URL. None without a template, and where it wants the id of a trace that is
    not on record or was not sampled.
    """
    if template is None:
        return None
    values = {"run_id": run_id, "tenant_id": tenant_id}
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is not None and int(found[3], 16) & 1:
        values |= {"trace_id": found[1], "span_id": found[2]}
    if not all(name in values for name in PLACE.findall(template)):
        return None
    return PLACE.sub(lambda place: quote(values[place[1]], safe=""), template)


def trace_of(facts: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> str | None:
    """The trace context of a run: that of its sender, else that of the last attempt that failed. Of runs that closed
    before releases kept it, only the latter is on record.
    """
    return facts["trace"] or next((str(error[TRACE]) for error in reversed(errors) if error.get(TRACE)), None)
