"""`cgk-tasks schedules`: when what is sent, and whether it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from cgk_tasks.cli import application, exits, values
from cgk_tasks.cli.output import AsJson, examples, print_facts, print_heading, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Collection

    from cgk_tasks.schedules.schedule import Schedule

commands = typer.Typer(
    help="List, preview, pause and trigger schedules, and see which tenants a tick missed.",
    epilog=examples(
        "cgk-tasks schedules list",
        "cgk-tasks schedules preview ab.dailySummary --days 7",
        "cgk-tasks schedules coverage subscription.dailyBilling",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule, as `schedules list` shows it.")]
_MOST_TICKS = 1000


def _find(name: str) -> Schedule:
    from cgk_tasks.schedules.lookup import find_schedule

    application.load_jobs()
    return find_schedule(name)


def _known(name: str) -> dict[str, Any] | None:
    """The schedule as beat knows it, or None if no beat has seen it yet."""
    from cgk_tasks.schedules.history import known_schedules

    return known_schedules().get(name)


@commands.command("list", epilog=examples("cgk-tasks schedules list", "cgk-tasks schedules list --json"))
def list_schedules(as_json: AsJson = False) -> None:
    """List every schedule with its times, its last tick and its next one.

    `jobs`: how many of CGK_JOB_MODULES do its event. State `no job`: neither they nor the workers have one, so it does
    not tick. `overridden`: an operator changed its times or paused it, in the admin or here. Periodic tasks of the
    application's own (django-celery-beat, beat_schedule) are listed while they cannot be sent, in the state `failing`.
    """
    from cgk_tasks.schedules.failing_entries import failing_entries
    from cgk_tasks.schedules.history import known_schedules
    from cgk_tasks.schedules.job_events import handled_events
    from cgk_tasks.schedules.lookup import all_schedules

    application.load_jobs()
    known = known_schedules()
    handled = handled_events()
    failing = failing_entries()
    rows = [_row(schedule, known.get(schedule.name), handled) for schedule in all_schedules().values()]
    rows += [{"name": one.name, "event": one.task, "state": "failing", "reason": one.reason} for one in failing]
    if as_json:
        print_json(rows)
        return
    print_table(
        rows, ("name", "cron", "timezone", "event", "jobs", "scope", "state", "overridden", "last_tick", "next_tick")
    )
    for one in failing:
        say(f"{one.name} is not sent since {one.failing_since:%Y-%m-%d %H:%M} UTC: {one.reason}")
    if not known:
        say("No beat has run here yet. Start one: celery -A cgk_tasks beat")


def _row(schedule: Schedule, known: dict[str, Any] | None, handled: Collection[str]) -> dict[str, Any]:
    from cgk_tasks.jobs.registry import jobs_for
    from cgk_tasks.schedules.cron import timing

    cron, timezone = (known["cron"], known["timezone"]) if known else (schedule.cron, schedule.timezone)
    enabled = known is None or known["is_enabled"]
    has_job = schedule.event in handled
    return {
        "name": schedule.name,
        "cron": cron,
        "timezone": timezone,
        "event": schedule.event,
        "jobs": len(jobs_for(schedule.event)),
        "scope": schedule.scope,
        "state": "paused" if not enabled else "active" if has_job else "no job",
        "overridden": bool(known and known["is_overridden"]),
        "last_tick": known["last_tick"] if known else None,
        "next_tick": timing(cron, timezone).next(datetime.now(UTC)) if enabled and has_job else None,
    }


@commands.command("show", epilog=examples("cgk-tasks schedules show ab.hourlyMetrics"))
def show(name: Name, as_json: AsJson = False) -> None:
    """Show a schedule, its last ticks, and what tenants changed about it for themselves."""
    from dataclasses import asdict

    from cgk_tasks.schedules.history import last_ticks
    from cgk_tasks.schedules.job_events import handled_events
    from cgk_tasks.schedules.overrides import list_overrides

    schedule = _find(name)
    known = _known(name)
    facts = {
        **_row(schedule, known, handled_events()),
        "payload": dict(schedule.payload),
        "misfire": schedule.misfire,
        "overlap": schedule.overlap,
        "spread": f"{schedule.spread:g} s",
        "in the table": f"{schedule.cron} {schedule.timezone}",
        "replaces": ", ".join(schedule.replaces),
    }
    ticks, overrides = last_ticks(name, 10), [asdict(one) for one in list_overrides(name)]
    if as_json:
        print_json({**facts, "ticks": ticks, "overrides": overrides})
        return
    print_facts({key: str(value) if isinstance(value, dict) else value for key, value in facts.items()})
    if ticks:
        print_heading("Last ticks")
        print_table(ticks, _TICK_COLUMNS)
    if overrides:
        print_heading("Changed by tenants")
        print_table(overrides, ("tenant_id", "is_off", "shift_seconds"))


_TICK_COLUMNS = (
    "scheduled_for", "fired_at", "by_hand", "runs", "suspended", "switched_off", "overlapping", "given_up",
)  # fmt: skip


@commands.command(
    "preview",
    epilog=examples(
        "cgk-tasks schedules preview digest.creatorWeekly --from 2026-03-01T00:00:00Z --days 30",
        "cgk-tasks schedules preview ab.nightlyReconciliation --days 365 --json",
    ),
)
def preview(
    name: Name,
    begin: Annotated[
        str | None, typer.Option("--from", help="First moment, ISO 8601 with a zone. Default: now.")
    ] = None,
    days: Annotated[float, typer.Option(min=0.001, max=3660, help="How many days to look ahead.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Print when a schedule will tick, through the changes of the clocks."""
    from cgk_tasks.schedules.fan_out import with_timing

    schedule, known = _find(name), _known(name)
    if known:
        schedule = with_timing(schedule, known["cron"], known["timezone"])
    first = values.time(begin) if begin else datetime.now(UTC)
    just_before = first - timedelta(microseconds=1)
    ticks: list[dict[str, datetime]] = []
    for tick in schedule.timing.ticks(just_before, first + timedelta(days=days)):
        if len(ticks) == _MOST_TICKS:
            say(f"Only the first {_MOST_TICKS} ticks are shown; ask for fewer days.")
            break
        ticks.append({"local": tick.astimezone(ZoneInfo(schedule.timezone)), "utc": tick.astimezone(UTC)})
    if as_json:
        print_json(ticks)
        return
    for one in ticks:
        typer.echo(f"{one['local']:%a %Y-%m-%d %H:%M:%S %z}  {one['utc']:%Y-%m-%dT%H:%M:%SZ}")


@commands.command("pause", epilog=examples("cgk-tasks schedules pause creator.emailQueue"))
def pause(name: Name) -> None:
    """Let a schedule tick no more. Beat notices within seconds."""
    _set_enabled(name, enabled=False)


@commands.command("resume", epilog=examples("cgk-tasks schedules resume creator.emailQueue"))
def resume(name: Name) -> None:
    """Let a paused schedule tick again, from its next tick on."""
    _set_enabled(name, enabled=True)


def _set_enabled(name: str, *, enabled: bool) -> None:
    schedule = _find(name)
    from cgk_tasks.schedules.django_setup import set_up_django

    set_up_django()
    from cgk_tasks.schedules.periodic_tasks import set_enabled, store_entry
    from cgk_tasks.sql.postgres import autocommit
    from cgk_tasks.tenancy.audit import note

    if not set_enabled(schedule.name, enabled=enabled):
        # No beat has seeded it yet; beat takes a row that is there already as an operator's.
        store_entry(schedule, enabled=enabled, with_times=True)
    with autocommit() as connection:
        note(connection, "resume schedule" if enabled else "pause schedule", schedule.name)
    typer.echo(f"{schedule.name}: {'active' if enabled else 'paused'}")


@commands.command(
    "trigger",
    epilog=examples(
        "cgk-tasks schedules trigger subscription.dailyBilling --tenant acme",
        "cgk-tasks schedules trigger ops.dailyCleanup",
    ),
)
def trigger(
    name: Name,
    tenant: Annotated[str | None, typer.Option(help="For this tenant only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a tick now, beside those of the clock. Tenants with an open run of it are left out, as in any other tick."""
    from dataclasses import asdict

    from cgk_tasks.schedules.fan_out import fire
    from cgk_tasks.schedules.job_events import handled_events
    from cgk_tasks.tenancy import registry

    schedule = _find(name)
    if schedule.event not in handled_events():
        say(f"warning: nobody has a job for {schedule.event}, so what is made now ends as unhandled.")
    if tenant is not None:
        registry.require(tenant)
    tick = fire(schedule, datetime.now(UTC), tenant_id=tenant, by_hand=True)
    if as_json:
        print_json(asdict(tick))
        return
    typer.echo(f"{name}: {tick.runs} {'run' if tick.runs == 1 else 'runs'}")
    left_out = {"suspended": tick.suspended, "switched off": tick.switched_off, "still open": tick.overlapping}
    for reason, number in left_out.items():
        if number:
            say(f"left out, {reason}: {number}")


@commands.command("coverage", epilog=examples("cgk-tasks schedules coverage subscription.dailyBilling --all"))
def coverage(
    name: Name,
    everyone: Annotated[bool, typer.Option("--all", help="Also the tenants that got their run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print which tenants got no run from the last tick, and why; exit with 1 when one should have had it."""
    from cgk_tasks.schedules.history import last_coverage

    schedule = _find(name)
    scheduled_for, rows = last_coverage(schedule)
    if scheduled_for is None:
        say(f"{name} has not ticked yet.")
        raise typer.Exit(exits.FAILED)
    missed = [row for row in rows if row["run_id"] is None]
    shown = rows if everyone else missed
    if as_json:
        print_json({"schedule": name, "scheduled_for": scheduled_for, "tenants": shown})
    else:
        say(f"{name}, tick of {scheduled_for:%Y-%m-%d %H:%M:%S %Z}: {len(rows) - len(missed)} of {len(rows)} tenants")
        if shown:
            print_table(shown, ("tenant_id", "reason", "state", "run_id"))
    if any(row["reason"] == "unknown" for row in missed):
        raise typer.Exit(exits.FAILED)
