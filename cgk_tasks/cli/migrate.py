"""`cgk-tasks migrate`: the tables of cgk_tasks in the schema `cgk`, those of django-celery-beat in `cgk_beat`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from cgk_tasks.cli import exits
from cgk_tasks.cli.output import AsJson, examples, print_json, say

EXAMPLES = examples("cgk-tasks migrate", "cgk-tasks migrate --check || cgk-tasks migrate", "cgk-tasks migrate --finish")

_EVERY_ROWS = 100_000


def migrate(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 when behind.")] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Remove what only processes of an earlier release need; see upgrade.md.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the tables of cgk_tasks and of django-celery-beat in CGK_DATABASE_URL up to date. Safe to repeat, and for
    several at once.
    """
    from cgk_tasks import migrations

    before, newest = migrations.current(), migrations.newest()
    after = before if check else bring_up_to_date(finish=finish)
    is_newer = after is not None and migrations.is_newer(after)
    up_to_date = migrations.is_usable(after)
    is_finished = after == newest or is_newer
    if as_json:
        print_json(
            {
                "before": before,
                "revision": after,
                "newest": newest,
                "up_to_date": up_to_date,
                "finished": is_finished,
            }
        )
    elif is_newer:
        typer.echo(f"nothing to do: the database is at revision {after}, of a newer version of cgk_tasks")
    elif up_to_date:
        typer.echo(f"up to date, at revision {after}" if before == after else f"migrated from {before} to {after}")
        if not is_finished:
            say("Once no process of an earlier release runs any more: cgk-tasks migrate --finish")
    else:
        say(f"The database is at revision {after}, this version of cgk_tasks needs {newest}. Run: cgk-tasks migrate")
    if not up_to_date:
        raise typer.Exit(exits.FAILED)


def bring_up_to_date(*, finish: bool = False) -> str | None:
    """Make or change the tables of cgk_tasks and of django-celery-beat. Returns the revision of the first.

    finish: remove as well what only processes of an earlier release need.
    """
    from cgk_tasks import migrations

    if migrations.current() not in {None, migrations.newest()}:
        _learn_events()
    revision = migrations.finish(_progress) if finish else migrations.migrate(report=_progress)
    if find_spec("django_celery_beat") is None:
        return revision  # nor does beat run from here
    from cgk_tasks.schedules.django_setup import migrate_django, uses_own_settings

    migrate_django()
    if not uses_own_settings():
        say(
            "DJANGO_SETTINGS_MODULE is set: the tables of django-celery-beat are that project's. Run: manage.py migrate"
        )
    return revision


def _progress(table: str, rows: int) -> None:
    if rows % _EVERY_ROWS == 0:
        say(f"converting {table}: {rows:,} rows")


def _learn_events() -> None:
    """The application's events say which of their fields can be searched. Without its modules the rest goes on."""
    from cgk_tasks.jobs.registry import import_job_modules

    try:
        import_job_modules()
    except Exception as exc:  # noqa: BLE001 - whatever a module raises when it is imported
        say(f"warning: the job modules were not imported, so fields of their events cannot be searched yet: {exc}")
