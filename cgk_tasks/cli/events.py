"""`cgk-tasks events`: the catalog, and the application's own events."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli import application
from cgk_tasks.cli.output import (
    AsJson,
    examples,
    print_facts,
    print_heading,
    print_json,
    print_table,
    say,
)
from cgk_tasks.config.nearest import did_you_mean

if TYPE_CHECKING:
    from cgk_tasks.events.base import TenantEvent

commands = typer.Typer(
    help="Look up events: names, fields, examples and jobs.",
    epilog=examples("cgk-tasks events list --category commerce", "cgk-tasks events show order.created"),
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command("list", epilog=examples("cgk-tasks events list --jobs", "cgk-tasks events list --category commerce"))
def list_events(
    category: Annotated[str | None, typer.Option(help="Only this category's.")] = None,
    with_jobs: Annotated[bool, typer.Option("--jobs", help="Only those that have jobs here.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the events that can be sent: the catalog's, and those that CGK_JOB_MODULES define."""
    from cgk_tasks.events.registry import all_events
    from cgk_tasks.jobs.registry import jobs_for

    application.load_jobs()
    known = all_events()
    categories = list(dict.fromkeys(event.category for event in known))
    if category is not None and category not in categories:
        raise typer.BadParameter(
            f"there is no category {category!r}.{did_you_mean(category, categories)} There are: "
            f"{', '.join(categories)}.",
            param_hint="--category",
        )
    rows = [
        {
            "event": e.event_name,
            "category": e.category,
            "durable": e.durable,
            "meaning": inspect.getdoc(e) or "",
        }
        for e in known
        if category in {None, e.category} and (jobs_for(e.event_name) or not with_jobs)
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, ("event", "category", "meaning"))
    else:
        say("None of them has a job here. Name the modules of your jobs in CGK_JOB_MODULES.")


@commands.command(
    "show", epilog=examples("cgk-tasks events show order.created", "cgk-tasks events show email.send --json")
)
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The event's name, or a second spelling of it.")],
    as_json: AsJson = False,
) -> None:
    """Show an event's fields, a payload to start from, and the jobs that run for it."""
    from cgk_tasks.events.registry import get_event

    application.load_jobs()
    details = _details(get_event(name))
    if as_json:
        print_json(details)
        return
    print_facts({key: details[key] for key in ("event", "class", "category", "durable", "meaning", "spellings")})
    print_heading("fields")
    print_table(details["fields"], ("wire", "python", "type", "required", "meaning"))
    print_heading("jobs")
    if details["jobs"]:
        print_table(details["jobs"], ("id", "handler", "max_attempts", "timeout_seconds"))
    else:
        say("None is known here. Write one with @define_job and name its module in CGK_JOB_MODULES.")
    print_heading("send it")
    if details["example"] is None:
        say("Its fields have rules of their own; fill in the fields that are required.")
    else:
        typer.echo(f"cgk-tasks send {details['event']} '{json.dumps(details['example'])}'")


def _details(event: type[TenantEvent]) -> dict[str, Any]:
    from cgk_tasks.cli.event_fields import example, fields
    from cgk_tasks.events.registry import ALIASES

    return {
        "event": event.event_name,
        "class": f"{event.__module__}.{event.__qualname__}",
        "category": event.category,
        "durable": event.durable,
        "meaning": inspect.getdoc(event) or "",
        "spellings": ", ".join(alias for alias, meant in ALIASES.items() if meant == event.event_name),
        "fields": fields(event),
        "example": example(event),
        "jobs": _jobs(event.event_name),
    }


def _jobs(event: str) -> list[dict[str, Any]]:
    from cgk_tasks.jobs.registry import jobs_for

    return [
        {
            "id": job.id,
            "handler": f"{job.handler.__module__}.{getattr(job.handler, '__qualname__', repr(job.handler))}",
            "max_attempts": job.retry.max_attempts,
            "timeout_seconds": job.time_limits.soft,
        }
        for job in jobs_for(event)
    ]
