"""`cgk-tasks tenants migrate`: the application's tables, of every tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cgk_tasks.cli import exits
from cgk_tasks.cli.output import AsJson, err, examples, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cgk_tasks.tenancy import Tenant
    from cgk_tasks.tenancy.setup import SetUp

EXAMPLES = examples(
    "cgk-tasks tenants migrate", "cgk-tasks tenants migrate --jobs 8 --keep-going",
    "cgk-tasks tenants migrate --tenant acme --tenant globex",
)  # fmt: skip


def migrate(
    only: Annotated[
        list[str] | None,
        typer.Option("--tenant", metavar="ID", help="Only this one, also if suspended; several times."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=16, help="How many tenants at a time.")] = 4,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Go on with the others after an error.")] = False,
    suspended: Annotated[bool, typer.Option("--suspended", help="Suspended tenants too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run CGK_TENANT_SETUP for all active tenants: it makes or changes the tables of each, in a transaction of its own.

    Stops at the first error, after the tenants that are under way. Exits with 1 when a tenant failed or was left out;
    run it again then: the function must be safe to repeat.
    """
    from cgk_tasks.tenancy.setup import set_up_tenants

    tenants = _chosen(only or [], with_suspended=suspended)
    if not tenants:
        say("No tenant is active. Add one: cgk-tasks tenants add acme")
    done = list(_with_progress(set_up_tenants(tenants, jobs=jobs, keep_going=keep_going), len(tenants)))
    _note(done)
    done.sort(key=lambda one: one.tenant)
    failed = [one for one in done if one.error is not None]
    skipped = [one.tenant for one in done if one.is_skipped]
    if as_json:
        print_json({
            "done": [{"tenant": one.tenant, "seconds": round(one.seconds, 3)} for one in done if one.worked],
            "failed": [{"tenant": one.tenant, "error": one.error} for one in failed], "skipped": skipped,
        })  # fmt: skip
    else:
        typer.echo(f"{sum(one.worked for one in done)} of {len(done)} tenants are up to date")
        if failed:
            print_table([{"tenant": one.tenant, "message": one.error} for one in failed], ("tenant", "message"))
    if skipped:
        say(f"{len(skipped)} were not begun. Go on after an error with --keep-going.")
    if failed or skipped:
        raise typer.Exit(exits.FAILED)


def _chosen(only: list[str], *, with_suspended: bool) -> list[Tenant]:
    from cgk_tasks.tenancy import registry
    from cgk_tasks.tenancy.platform import PLATFORM_TENANT

    if only:
        return [registry.require(tenant_id) for tenant_id in dict.fromkeys(only)]
    if with_suspended:
        return [tenant for tenant in registry.all_tenants() if tenant.id != PLATFORM_TENANT]
    return registry.active_tenants()


def _note(done: Sequence[SetUp]) -> None:
    from cgk_tasks.sql.postgres import autocommit
    from cgk_tasks.tenancy.audit import note

    failed = [one.tenant for one in done if one.error is not None]
    with autocommit() as connection:
        note(
            connection, "migrate tenants", "", affected=sum(one.worked for one in done),
            message=f"failed: {', '.join(failed)}" if failed else "",
        )  # fmt: skip


def _with_progress(ended: Iterable[SetUp], total: int) -> Iterator[SetUp]:
    """The same, with a bar on a terminal, on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = err()
    columns = (
        TextColumn("tenants"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        failed = 0
        for one in ended:
            failed += one.error is not None
            bar.update(task, advance=1, description=f"{failed} failed" if failed else "")
            yield one
