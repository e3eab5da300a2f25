"""`cgk-tasks migrate-check`: what will differ for an application that runs on plain Celery."""

from __future__ import annotations

from typing import Annotated

import typer

from cgk_tasks.cli import exits
from cgk_tasks.cli.output import AsJson, examples, print_heading, print_json, say
from cgk_tasks.extras import require_extra

EXAMPLES = examples("cgk-tasks migrate-check shop.celery", "cgk-tasks migrate-check shop.celery:app --json")

Module = Annotated[str, typer.Argument(metavar="MODULE", help="What `celery -A` is given today.")]

_HEADINGS = {"refused": "Refused: to be changed first", "different": "Different: to be read"}


def migrate_check(module: Module, as_json: AsJson = False) -> None:
    """Import a Celery application as it is, and name what will differ once it imports its app from cgk_tasks.

    Nothing is changed and nothing is sent. Exits with 1 if something would be refused.
    """
    require_extra("worker", "The command migrate-check")
    from cgk_tasks.celery_tasks import migration_check

    app, imported = migration_check.application(module)
    found = migration_check.findings(app, imported)
    if as_json:
        print_json(found)
    else:
        for effect, heading in _HEADINGS.items():
            listed = [one for one in found if one.effect == effect]
            if listed:
                print_heading(heading)
            for one in listed:
                typer.echo(f"{one.where}\n    {one.what}\n    {one.advice}")
        count = "1 thing differs" if len(found) == 1 else f"{len(found)} things differ"
        say(f"{count}. What is the same: docs/how-to/move-from-celery.md")
    if any(one.effect == "refused" for one in found):
        raise typer.Exit(exits.FAILED)
