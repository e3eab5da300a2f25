"""`cgk-tasks tenants usage`: what tenants used."""

from __future__ import annotations

import csv
import dataclasses
import io
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli import values
from cgk_tasks.cli.output import examples, print_json, print_table, say

if TYPE_CHECKING:
    from cgk_tasks.runs.usage import Usage

EXAMPLES = examples(
    "cgk-tasks tenants usage", "cgk-tasks tenants usage --tenant acme --since 2026-11-01T00:00:00Z --by day",
    "cgk-tasks tenants usage --by month --format csv > usage.csv",
)  # fmt: skip
_COLUMNS = ("tenant_id", "begin", "runs", "failed", "run_seconds", "queue_seconds", "rejected")


def usage(
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="ID", help="Of this tenant only.")] = None,
    since: Annotated[
        Any,
        typer.Option(metavar="TIME", parser=values.time, help="ISO 8601 with a zone; default: the month's beginning."),
    ] = None,
    until: Annotated[
        Any, typer.Option(metavar="TIME", parser=values.time, help="ISO 8601 with a zone; default: now.")
    ] = None,
    by: Annotated[
        Any,
        typer.Option(
            metavar="TIME", parser=values.one_of(("hour", "day", "month", "total")), help="hour, day, month or total."
        ),
    ] = "total",
    form: Annotated[
        Any,
        typer.Option(
            "--format", metavar="FORM", parser=values.one_of(("table", "csv", "json")), help="table, csv or json."
        ),
    ] = "table",
) -> None:
    """What tenants used: runs that closed, how many failed, how long they ran and waited, and sends that were refused.

    Those that ran longest come first. Times are taken in whole hours of UTC.
    """
    from cgk_tasks.runs.usage import get_usage

    found = get_usage(tenant, since, until, by=by)
    if form == "json":
        print_json(found)
    elif form == "csv":
        typer.echo(_csv(found), nl=False)
    elif found:
        print_table([_row(one) for one in found], _COLUMNS)
    else:
        say("Nothing ran in that time.")


def _row(one: Usage) -> dict[str, Any]:
    rounded = {"run_seconds": round(one.run_seconds, 3), "queue_seconds": round(one.queue_seconds, 3)}
    return dataclasses.asdict(one) | rounded


def _csv(found: list[Usage]) -> str:
    written = io.StringIO()
    lines = csv.DictWriter(written, _COLUMNS, lineterminator="\n")
    lines.writeheader()
    lines.writerows(
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in _row(one).items()}
        for one in found
    )
    return written.getvalue()
