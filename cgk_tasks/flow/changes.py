"""Changes of what is set on record for plans, tenants and jobs: one after another, each with its line in the audit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from typing import Any, Final, NamedTuple

import psycopg

from cgk_tasks.admission.buckets import least_burst
from cgk_tasks.admission.set_rules import look_again
from cgk_tasks.errors import LONGEST_WAIT_SECONDS, InvalidOptionError, as_seconds
from cgk_tasks.sql.postgres import Connection, Row, explain, fetch, statements, transaction
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.visibility import refuse_in_context

SQL = statements("limits")


class Keep(Enum):
    """The type of KEEP."""

    KEEP = "keep"

    def __repr__(self) -> str:
        return self.name


KEEP: Final = Keep.KEEP
"""An option that is left as it is. None takes it away."""

NUMBERS: Final = ("weight", "at_once", "starts", "period", "burst", "daily_runs", "max_waiting")
"""The columns of what a plan or a tenant may."""

_MOST: Final = {"at_once": 1_000_000_000, "daily_runs": 10**15, "max_waiting": 1_000_000_000}
_HEAVIEST, _LIGHTEST = 1_000_000.0, 0.001


@contextmanager
def changing() -> Iterator[tuple[Connection, int]]:
    """A transaction in which limits are changed, and the version that they get. This process knows of them at its end.
    Raises TenantContextError, StoreError.
    """
    refuse_in_context("What tenants may")
    try:
        with transaction() as connection:
            fetch(connection, SQL["lock"])
            yield connection, fetch(connection, SQL["next_version"])[0]["version"]
    except psycopg.Error as exc:
        raise explain(exc) from exc
    look_again()


class Change(NamedTuple):
    """Who changes something, and why."""

    by: str = ""
    reason: str = ""

    def note(
        self,
        connection: Connection,
        action: str,
        subject: str,
        old: Mapping[str, Any],
        new: Mapping[str, Any],
        tenant_id: str | None = None,
    ) -> None:
        """Write the change into the audit: what was, and what is."""
        changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        details = {
            "old": {name: old.get(name) for name in changed},
            "new": {name: new.get(name) for name in changed},
        }
        note(connection, action, subject, tenant_id=tenant_id, by=self.by, message=self.reason, details=details)


def merged(old: Row | None, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers as they are to be: what is wanted, else what was."""
    before = {name: None if old is None else old[name] for name in NUMBERS}
    return before | {name: value for name, value in wanted.items() if value is not KEEP}


def checked_numbers(
    weight: float | Keep | None,
    at_once: int | Keep | None,
    starts: tuple[int, float | timedelta] | Keep | None,
    daily_runs: int | Keep | None,
    max_waiting: int | Keep | None,
) -> dict[str, Any]:
    """What a plan or tenant is to have, by column. Raises InvalidOptionError for what cannot be."""
    counts = {"at_once": at_once, "daily_runs": daily_runs, "max_waiting": max_waiting}
    numbers: dict[str, Any] = {name: checked_count(name, value, _MOST[name]) for name, value in counts.items()}
    return numbers | {"weight": _checked_weight(weight)} | _checked_starts(starts)


def checked_count(option: str, value: object, most: int) -> object:
    if value is None or value is KEEP or (type(value) is int and 1 <= value <= most):
        return value
    hint = "None takes the limit away." if value == 0 else None
    raise InvalidOptionError(option, f"must be a whole number from 1 to {most:,}, not {value!r}.", hint=hint)


def _checked_weight(value: object) -> object:
    if value is None or value is KEEP:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and _LIGHTEST <= value <= _HEAVIEST:
        return float(value)
    raise InvalidOptionError(
        "weight",
        f"must be a number from {_LIGHTEST} to {_HEAVIEST:,.0f}, not {value!r}.",
        hint="1 is what everybody has. To let nothing of a tenant start, suspend it.",
    )


def _checked_starts(value: object) -> dict[str, Any]:
    if value is None or value is KEEP:
        return {"starts": value, "period": value, "burst": value}
    if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], int | float | timedelta):
        rate, period = checked_count("starts", value[0], _MOST["at_once"]), as_seconds(value[1])
        if rate is not None and math.isfinite(period) and 0.001 <= period <= LONGEST_WAIT_SECONDS:
            assert isinstance(rate, int)
            return {"starts": rate, "period": period, "burst": least_burst(rate, period)}
    raise InvalidOptionError(
        "starts",
        f"must be how many in how many seconds (from 0.001), not {value!r}.",
        hint="Write: starts=(1000, 60)",
    )
